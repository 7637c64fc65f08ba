package httpidem

import (
	"bytes"
	"cmp"
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
// anything outside of its parts, has more than 1000 parts or none, or breaks off is compared with
// all its bytes, as [WholeRequest] does.
func MultipartParts(d *Digest, r *http.Request, body *Body) error {
	parts, err := splitParts(r.Header.Get("Content-Type"), body)
	if isSpoolError(err) {
		return err
	}
	if err != nil {
		d.Text("body")
		return WholeRequest(d, r, body)
	}
	d.Text("multipart")
	d.Text(query(r))
	kind, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // it is valid
	delete(params, "boundary")
	d.Text(kind)
	d.length(len(params))
	for _, name := range slices.Sorted(maps.Keys(params)) {
		d.Text(name)
		d.Text(params[name])
	}
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
func splitParts(contentType string, body *Body) (parts []bodyPart, err error) {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || !strings.HasPrefix(kind, "multipart/") || params["boundary"] == "" {
		return nil, errNoParts
	}
	// What is in front of the first delimiter and behind the last one is in no part. Some readers
	// find further parts there.
	delimiter := []byte("--" + params["boundary"])
	last := slices.Concat(delimiter, []byte("--"))
	text := body.Reader()
	head, err := readPart(text, 0, len(delimiter))
	if err != nil {
		return nil, err
	}
	tail, err := readPart(text, text.Size()-int64(len(last)+2), len(last)+2)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(head, delimiter) || !bytes.HasSuffix(bytes.TrimSuffix(tail, []byte("\r\n")), last) {
		return nil, errNoParts
	}
	if n, err := countIn(text, last); err != nil || n != 1 {
		return nil, cmp.Or(err, errNoParts)
	}
	for reader := multipart.NewReader(body.Reader(), params["boundary"]); ; {
		part, err := reader.NextRawPart()
		if isSpoolError(err) {
			return nil, err
		}
		if err == io.EOF && len(parts) > 0 { //nolint:errorlint // it comes as it is, and wrapped if the body breaks off
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

// readPart returns the n bytes at an offset, or those of them that there are.
func readPart(text *io.SectionReader, off int64, n int) ([]byte, error) {
	return io.ReadAll(io.NewSectionReader(text, max(off, 0), int64(n)))
}

// countIn returns how often a reader has a text.
func countIn(r io.Reader, text []byte) (count int, err error) {
	buffer := make([]byte, 32<<10+len(text))
	kept := 0
	for {
		n, err := r.Read(buffer[kept:])
		rest := buffer[:kept+n]
		for found := bytes.Index(rest, text); found >= 0; found = bytes.Index(rest, text) {
			count++
			rest = rest[found+len(text):]
		}
		kept = copy(buffer, rest[max(0, len(rest)-len(text)+1):])
		switch {
		case err == io.EOF: //nolint:errorlint // a reader returns it as it is
			return count, nil
		case err != nil:
			return 0, err
		}
	}
}
