package httpidem

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
)

// The bounds of a body that is compared by its parts. RFC 2046 has the one for boundaries.
const (
	maxParts    = 1000
	maxBoundary = 70
)

// MultipartParts is a [FingerprintFunc] that compares multipart bodies by their parts, together
// with the query and the media type: the header fields and the content of each part, byte for byte,
// in the order of the parts. The boundary does not matter, so that a form that a browser builds
// again is the same request.
//
// These bodies are compared with all their bytes, as [WholeRequest] does: a body that is not
// multipart, has anything outside of its parts, has more than 1000 parts or none, breaks off, has a
// delimiter line that does not end with CRLF, or has the delimiter anywhere else.
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
	for i := range parts {
		d.Bytes(parts[i][:])
	}
	return nil
}

// partDigest is the digest of one part: of its header and its content.
type partDigest [sha256.Size]byte

var errNoParts = errors.New("not one multipart body")

// splitParts returns the parts of a body. Readers of multipart bodies differ in what they take for
// a delimiter, so it accepts only bodies in which all of them find the same parts. The bytes of the
// body follow from the boundary, the parts, and whether a line end follows the last delimiter.
func splitParts(contentType string, body *Body) ([]partDigest, error) {
	kind, params, err := mime.ParseMediaType(contentType)
	boundary := params["boundary"]
	if err != nil || !strings.HasPrefix(kind, "multipart/") || boundary == "" || len(boundary) > maxBoundary {
		return nil, errNoParts
	}
	delimiter := []byte("--" + boundary)
	parts, err := readParts(bufio.NewReaderSize(body.Reader(), 32<<10), delimiter)
	if err != nil {
		return nil, err
	}
	if n, err := countIn(body.Reader(), delimiter); err != nil || n != len(parts)+1 {
		return nil, cmp.Or(err, errNoParts)
	}
	return parts, nil
}

// readParts reads the parts between delimiter lines (RFC 2046, section 5.1.1). The body must begin
// with a delimiter line and end with the close delimiter.
func readParts(lines *bufio.Reader, delimiter []byte) ([]partDigest, error) {
	var parts []partDigest
	var part hash.Hash // nil in front of the first delimiter
	var held []byte    // the last line end, which is a part of the delimiter if one follows
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil && err != io.EOF && !errors.Is(err, bufio.ErrBufferFull) { //nolint:errorlint // it comes as it is
			return nil, err
		}
		rest, delimits := bytes.CutPrefix(line, delimiter)
		switch delimits = delimits && (part == nil || string(held) == lineEnd); {
		case delimits && part != nil:
			parts = append(parts, partDigest(part.Sum(nil)))
		case !delimits && (part == nil || err == io.EOF): //nolint:errorlint // it comes as it is
			return nil, errNoParts // text in front of the first part, or the body breaks off
		}
		switch {
		case !delimits:
			held = hashText(part, append(held, line...))
		case len(parts) > 0 && (string(rest) == "--" || string(rest) == "--"+lineEnd):
			return parts, atEnd(lines)
		case len(parts) == maxParts || string(bytes.TrimLeft(rest, " \t")) != lineEnd:
			return nil, errNoParts
		default:
			part, held = sha256.New(), held[:0]
			part.Write(rest)
		}
	}
}

const lineEnd = "\r\n"

// hashText adds a text to the hash of its part, except for a line end at the end of the text. It
// returns that line end, or the beginning of one.
func hashText(part hash.Hash, text []byte) (held []byte) {
	end := len(text)
	switch {
	case bytes.HasSuffix(text, []byte(lineEnd)):
		end -= len(lineEnd)
	case bytes.HasSuffix(text, []byte("\r")): // the rest did not fit into the buffer
		end--
	}
	part.Write(text[:end])
	return append(text[:0], text[end:]...)
}

// atEnd returns an error unless the body has no more text.
func atEnd(lines *bufio.Reader) error {
	switch _, err := lines.Peek(1); err {
	case io.EOF: //nolint:errorlint // it comes as it is
		return nil
	case nil:
		return errNoParts
	default:
		return err
	}
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
