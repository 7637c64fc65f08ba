package redisidem

import (
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Failure is an attempt that ended with an error.
type Failure struct {
	// At is the server's time when the attempt ended.
	At time.Time
	// Revision and Attempt are the revision that the attempt began from, and which run of its stage
	// it was, counted from 1.
	Revision int64
	Attempt  int
	// Owner is the Config.Owner of the process that made the attempt.
	Owner string
	// Text is the text of the error, at most 256 bytes of it. It is empty if Config.Codec cannot
	// decode it.
	Text string
	// Err is why Text could not be decoded, and nil if it was. It matches [ErrDamaged].
	Err error
}

// maxFailureBytes bounds the text of a failure.
const maxFailureBytes = 256

// failureText returns an error's text as it is stored: valid UTF-8 of at most 256 bytes.
func failureText(err error) string {
	text := strings.ToValidUTF8(err.Error(), "\ufffd")
	if len(text) <= maxFailureBytes {
		return text
	}
	end := maxFailureBytes
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// failure returns the failure to store for the error that ended an attempt; empty for none.
func (l *Lease) failure(err error) (failure []byte) {
	s := l.scope.service
	if err == nil || s.cfg.DiscardFailures {
		return nil
	}
	defer func() {
		if v := recover(); v != nil { // in the Error method: the attempt must end nevertheless
			s.logPanic(l.ctx, v, "error", "text")
			failure = nil
		}
	}()
	l.mu.Lock()
	key, attempt := l.key, l.attempt
	l.mu.Unlock()
	stored, err := s.valueCodec.encode(l.id, key.fingerprint, fieldLastFailure, 0, []byte(failureText(err)))
	if err != nil {
		return nil // the attempt ends in any case, and its caller gets the error
	}
	return append(strconv.AppendInt(nil, int64(attempt), 10), " "+s.cfg.Owner+" "+string(stored)...)
}

// decodeFailure reads "time revision attempt owner text", the form in which the abandon script
// writes a failure. The text stays as it is stored.
func decodeFailure(s string) (*Failure, error) {
	parts := strings.SplitN(s, " ", 5)
	if len(parts) != 5 {
		return nil, damaged("%s has %d parts", fieldLastFailure, len(parts))
	}
	at, err := parseTime(fieldLastFailure, parts[0])
	revision, err1 := parseCount(fieldLastFailure, parts[1])
	attempt, err2 := parseCount(fieldLastFailure, parts[2])
	return &Failure{At: at, Revision: revision, Attempt: int(attempt), Owner: parts[3], Text: parts[4]}, errors.Join(err, err1, err2)
}

// decode decodes the text of a failure. A text that cannot be decoded is empty, and Err says why:
// it is for human readers, and must not keep the work from being continued. The bound of other
// values may be lower than that of the text.
func (f *Failure) decode(v valueCodec, id identity, fingerprint string) {
	v.limit = max(v.limit, maxFailureBytes)
	text, err := v.decode(id, fingerprint, fieldLastFailure, 0, []byte(f.Text))
	f.Text, f.Err = string(text), err
}
