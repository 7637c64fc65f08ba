package httpidem

import (
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"os"
)

// spooledBody is a body in a file.
type spooledBody struct {
	spool *Spool
	file  *os.File
	name  string // of the file; empty if it has none any more
	size  int64
	sum   [sha256.Size]byte // of the whole body
}

// spoolError is an error of a file, or that there is no room for one. It is the server's, and not
// the client's.
type spoolError struct{ err error }

func (e *spoolError) Error() string { return "httpidem: spool: " + e.err.Error() }

// Unwrap returns the error of the file, or [ErrSpoolFull].
func (e *spoolError) Unwrap() error { return e.err }

// isSpoolError reports whether an error is that of a spool.
func isSpoolError(err error) bool {
	_, ok := errors.AsType[*spoolError](err)
	return ok
}

// store reads a body to a file and computes its digest. head is the beginning of the body, which
// was read before; its memory is used as the buffer. With an error it returns the part that it has
// stored, or nil. The caller removes the file.
func (s *Spool) store(from io.Reader, head []byte, limit int64) (*spooledBody, error) {
	file, err := os.CreateTemp(s.dir, "redisidem-body-*") // its mode is 0600
	if err != nil {
		return nil, &spoolError{err}
	}
	b := &spooledBody{spool: s, file: file}
	if os.Remove(file.Name()) != nil { // some systems keep the name of an open file
		b.name = file.Name()
	}
	returned := false
	defer func() {
		if !returned { // the reader has panicked, and the caller gets nothing to remove
			b.remove()
		}
	}()
	err = b.fill(from, head, limit)
	returned = true
	return b, err
}

// fill stores head, and what can be read after it.
func (b *spooledBody) fill(from io.Reader, head []byte, limit int64) error {
	sum := sha256.New()
	part, buffer, end := head, head[:cap(head)], false
	for {
		if err := b.append(part); err != nil {
			return err
		}
		sum.Write(part)
		switch {
		case b.size > limit:
			return &bodyTooLargeError{limit: limit}
		case end:
			sum.Sum(b.sum[:0])
			return nil
		}
		n, err := from.Read(buffer)
		if end = err == io.EOF; err != nil && !end { //nolint:errorlint // a reader returns it as it is
			return readError(err)
		}
		part = buffer[:n]
	}
}

// append adds a part to the file.
func (b *spooledBody) append(part []byte) error {
	length := int64(len(part))
	if !b.spool.reserve(length) {
		return &spoolError{ErrSpoolFull}
	}
	n, err := b.file.Write(part)
	b.size += int64(n)
	b.spool.used.Add(int64(n) - length)
	if err != nil {
		return &spoolError{err}
	}
	return nil
}

// reader returns a reader of the whole body.
func (b *spooledBody) reader() *io.SectionReader { return io.NewSectionReader(b, 0, b.size) }

// ReadAt implements [io.ReaderAt].
func (b *spooledBody) ReadAt(p []byte, off int64) (int, error) {
	n, err := b.file.ReadAt(p, off)
	switch {
	case err == io.EOF && off+int64(n) < b.size: //nolint:errorlint // a reader returns it as it is
		return n, &spoolError{io.ErrUnexpectedEOF}
	case err == nil || err == io.EOF: //nolint:errorlint // a reader returns it as it is
		return n, err
	case errors.Is(err, os.ErrClosed):
		return n, http.ErrBodyReadAfterClose
	}
	return n, &spoolError{err}
}

// remove removes the file. A nil body has none.
func (b *spooledBody) remove() {
	if b == nil {
		return
	}
	_ = b.file.Close() // it was only for this request
	if b.name != "" {
		_ = os.Remove(b.name)
	}
	b.spool.used.Add(-b.size)
}
