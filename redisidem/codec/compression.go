package codec

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/redisidem/redisidem/redisidem"
)

// NewCompression returns a codec that compresses values of at least minBytes with DEFLATE (RFC
// 1951) if that makes them shorter. Small values gain nothing: 1024 is a good bound.
//
// It returns an error that matches [redisidem.ErrInvalid] if minBytes is less than 1.
func NewCompression(minBytes int) (redisidem.Codec, error) {
	if minBytes < 1 {
		return nil, invalid("minBytes", "must be at least 1: %d", minBytes)
	}
	c := &compression{minBytes: minBytes}
	c.writers.New = func() any {
		w, err := flate.NewWriter(io.Discard, flate.DefaultCompression)
		if err != nil {
			panic(err) // the level is valid
		}
		return w
	}
	return c, nil
}

// compression encodes a value as one letter for its format and then, for 'd', the plain length and
// the compressed bytes, or for 'p' the plain bytes.
type compression struct {
	minBytes int
	writers  sync.Pool // a writer takes several hundred kilobytes
}

// Encode implements [redisidem.Codec].
func (c *compression) Encode(plain, _ []byte) ([]byte, error) {
	if len(plain) >= c.minBytes {
		var b bytes.Buffer
		b.WriteByte('d')
		b.Write(binary.AppendUvarint(nil, uint64(len(plain))))
		w := c.writers.Get().(*flate.Writer)
		defer c.writers.Put(w)
		w.Reset(&b)
		_, err := w.Write(plain)
		if err = errors.Join(err, w.Close()); err != nil {
			return nil, err
		}
		if b.Len() < len(plain) {
			return b.Bytes(), nil
		}
	}
	return append([]byte{'p'}, plain...), nil
}

// Decode implements [redisidem.Codec].
func (c *compression) Decode(stored, _ []byte, limit int) ([]byte, error) {
	if len(stored) == 0 {
		return nil, errors.New("empty")
	}
	format, rest := stored[0], stored[1:]
	switch format {
	case 'p':
		if len(rest) > limit {
			return nil, errTooLong(limit)
		}
		return rest, nil
	case 'd':
	default:
		return nil, fmt.Errorf("unknown format %q", format)
	}
	length, n := binary.Uvarint(rest)
	switch {
	case n <= 0:
		return nil, errors.New("the stored length is invalid")
	case length > uint64(max(limit, 0)):
		return nil, errTooLong(limit)
	}
	// The buffer grows while reading: the stored length may be wrong, and must not decide how much
	// memory is allocated.
	var b bytes.Buffer
	r := flate.NewReader(bytes.NewReader(rest[n:]))
	if _, err := io.Copy(&b, io.LimitReader(r, int64(length)+1)); err != nil { //nolint:gosec // it is at most limit
		return nil, err
	}
	if uint64(b.Len()) != length { //nolint:gosec // no length is negative
		return nil, errors.New("the length differs from the stored one")
	}
	return b.Bytes(), nil
}
