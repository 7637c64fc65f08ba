package httpidem

import (
	"cmp"
	"errors"
	"net/http"
	"os"
	"sync/atomic"
)

// The defaults of [SpoolConfig].
const (
	DefaultSpoolAbove    = largeBody
	DefaultSpoolMaxBytes = 1 << 30
)

// SpoolConfig configures a [Spool]. The zero value of each field means its default, and a nil
// *SpoolConfig means all defaults.
type SpoolConfig struct {
	// Dir is the folder of the files. Use one on a disk: files in a folder of type tmpfs are in
	// memory. Default: [os.TempDir].
	Dir string

	// Above is the size in bytes up to which a body stays in memory. At least, and by default, 64
	// KiB.
	Above int64

	// MaxBytes limits the bytes of all files together. A request whose body does not fit is
	// answered with 503 and Retry-After. At least Above. Default: 1 GiB.
	MaxBytes int64
}

// Spool keeps the bodies of requests that are too large for memory in files until their requests
// end. One spool is for all middlewares of a process: see Config.Spool. It is safe for concurrent
// use.
//
// A file has the mode 0600. Where the operating system permits it, its name is removed before
// anything is written to it, so that the file is gone with the process. A process that is killed in
// between leaves an empty file. Elsewhere the file is removed when the request ends, and the files
// of a process that was killed stay behind, as they can on NFS. Their names begin with
// redisidem-body-. Each file needs a file descriptor.
type Spool struct {
	dir             string
	above, maxBytes int64
	used            atomic.Int64
}

// ErrSpoolFull is the Err of the [Event] of a request whose body did not fit into the spool.
var ErrSpoolFull = errors.New("httpidem: the spool has reached its MaxBytes")

// NewSpool returns a spool, after it has written and removed a small file in its folder.
//
// A field that is out of its bounds is a [*redisidem.InvalidError]. All other errors are those of
// the file.
func NewSpool(cfg *SpoolConfig) (*Spool, error) {
	var c SpoolConfig
	if cfg != nil {
		c = *cfg
	}
	s := &Spool{
		dir: cmp.Or(c.Dir, os.TempDir()), above: cmp.Or(c.Above, DefaultSpoolAbove), maxBytes: cmp.Or(c.MaxBytes, DefaultSpoolMaxBytes),
	}
	switch {
	case s.above < largeBody:
		return nil, invalid("SpoolConfig.Above", "must be at least %d: %d", largeBody, s.above)
	case s.maxBytes < s.above:
		return nil, invalid("SpoolConfig.MaxBytes", "must be at least Above (%d): %d", s.above, s.maxBytes)
	}
	b, err := s.store(http.NoBody, []byte("test"), s.above)
	b.remove()
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Bytes returns the bytes of the bodies that are in files now.
func (s *Spool) Bytes() int64 { return s.used.Load() }

// MaxBytes returns SpoolConfig.MaxBytes, with its default filled in.
func (s *Spool) MaxBytes() int64 { return s.maxBytes }

// hasRoom reports whether a body of that length fits now.
func (s *Spool) hasRoom(length int64) bool { return length <= s.maxBytes-s.used.Load() }

// reserve takes n bytes for a file, and reports whether there is room for them.
func (s *Spool) reserve(n int64) bool {
	if s.used.Add(n) > s.maxBytes {
		s.used.Add(-n)
		return false
	}
	return true
}
