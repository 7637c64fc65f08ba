package redisidem

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// NewCompression makes a codec that compresses values of at least that many bytes with DEFLATE (RFC 1951), when that makes them
// shorter. Small values gain nothing: 1024 is a good bound. It must be at least 1.
func NewCompression(atLeast int) (Codec, error) {
	if atLeast < 1 {
		return nil, invalid("atLeast", "must be at least 1: %d", atLeast)
	}
	c := &compression{atLeast: atLeast}
	c.writers.New = func() any {
		w, err := flate.NewWriter(io.Discard, flate.DefaultCompression)
		if err != nil {
			panic(err) // the level is a good one
		}
		return w
	}
	return c, nil
}

// compression encodes a value as a letter for the way, and with 'd' the plain length and the compressed bytes, with 'p' the
// plain bytes.
type compression struct {
	atLeast int
	writers sync.Pool // a writer is several hundred kilobytes
}

// Encode implements [Codec].
func (c *compression) Encode(plain, _ []byte) ([]byte, error) {
	if len(plain) >= c.atLeast {
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

// Decode implements [Codec].
func (c *compression) Decode(stored, _ []byte, limit int) ([]byte, error) {
	if len(stored) == 0 {
		return nil, errors.New("empty")
	}
	way, rest := stored[0], stored[1:]
	switch way {
	case 'p':
		if len(rest) > limit {
			return nil, errTooLong(limit)
		}
		return rest, nil
	case 'd':
	default:
		return nil, fmt.Errorf("unknown way %q", way)
	}
	length, n := binary.Uvarint(rest)
	switch {
	case n <= 0:
		return nil, errors.New("bad length")
	case length > uint64(max(limit, 0)):
		return nil, errTooLong(limit)
	}
	// Grown while reading: the length is Redis's word, and memory is given for what is there.
	var b bytes.Buffer
	r := flate.NewReader(bytes.NewReader(rest[n:]))
	if _, err := io.Copy(&b, io.LimitReader(r, int64(length)+1)); err != nil { //nolint:gosec // it is at most limit
		return nil, err
	}
	if uint64(b.Len()) != length { //nolint:gosec // no length is negative
		return nil, errors.New("another length than it says")
	}
	return b.Bytes(), nil
}
