package httpidem

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
)

// maxParts bounds the parts of a body that is compared by its parts.
const maxParts = 1000

// MultipartParts is a [FingerprintFunc] that compares multipart bodies by their parts, together
// with the query and the media type: the header fields of each part, among them its name, its file
// name and its type, and its content, in the order of the parts. The boundary does not matter, so
// that a form that a browser builds again is the same request. A body that is not multipart, has
// more than 1000 parts or breaks off is compared with all its bytes, as [WholeRequest] does.
func MultipartParts(d *Digest, r *http.Request, body []byte) error {
	parts, err := splitParts(r.Header.Get("Content-Type"), body)
	if err != nil {
		d.Text("body")
		return WholeRequest(d, r, body)
	}
	d.Text("multipart")
	d.Text(query(r))
	d.Text(mediaType(r.Header.Get("Content-Type")))
	d.length(len(parts))
	for _, part := range parts {
		d.length(len(part.header))
		for _, name := range slices.Sorted(maps.Keys(part.header)) {
			d.Text(name)
			d.length(len(part.header[name]))
			for _, value := range part.header[name] {
				d.Text(value)
			}
		}
		d.Bytes(part.digest[:])
	}
	return nil
}

// bodyPart is a part of a multipart body.
type bodyPart struct {
	header map[string][]string
	digest [sha256.Size]byte
}

var errNoParts = errors.New("not one multipart body")

// splitParts returns the parts of a body.
func splitParts(contentType string, body []byte) (parts []bodyPart, err error) {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || !strings.HasPrefix(kind, "multipart/") || params["boundary"] == "" {
		return nil, errNoParts
	}
	for reader := multipart.NewReader(bytes.NewReader(body), params["boundary"]); ; {
		part, err := reader.NextRawPart()
		if err == io.EOF { //nolint:errorlint // it comes as it is, and wrapped if the body breaks off
			return parts, nil
		}
		if err != nil || len(parts) == maxParts {
			return nil, errNoParts
		}
		content := sha256.New()
		if _, err := io.Copy(content, part); err != nil {
			return nil, err
		}
		parts = append(parts, bodyPart{part.Header, [sha256.Size]byte(content.Sum(nil))})
	}
}
