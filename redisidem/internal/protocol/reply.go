package protocol

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/redisidem/redisidem/lua"
)

// Reply is a script's answer. Its methods read the reply of one script each.
type Reply struct {
	Status Status
	// Texts are behind the first line: in most replies the record as field, value, ...
	Texts []string
	// Acks is the number of replicas that acknowledged the writes before the reply.
	Acks int

	script  *lua.Script
	numbers string // the rest of the first line after the echo, separated by spaces
}

// errForeignReply means that a connection is out of step, because it delivered the reply to another
// call.
var errForeignReply = errors.New("the reply is another call's")

// read takes the reply from a command that has been sent.
func (c *Call) read(cmd callCmd) (Reply, error) {
	text, err := cmd.Result()
	if err != nil {
		return Reply{}, err
	}
	return ParseReply(c.script, c.nonce, text)
}

// ParseReply reads a script's reply to a call with that nonce. It returns a [DamagedError] for a
// damaged record.
func ParseReply(script *lua.Script, nonce, reply string) (Reply, error) {
	line, behind, hasTexts := strings.Cut(reply, "\n")
	first, rest, _ := strings.Cut(line, " ")
	echo, numbers, _ := strings.Cut(rest, " ")
	if echo != nonce {
		return Reply{}, errForeignReply
	}
	r := Reply{Status: Status(first), script: script, numbers: numbers}
	if hasTexts {
		var err error
		if r.Texts, err = parseTexts(behind); err != nil {
			return Reply{}, err
		}
	}
	if r.Status == StatusDamaged && len(r.Texts) > 0 {
		if deniedInScript(r.Texts[0]) {
			return Reply{}, scriptError(r.Texts[0]) // the state of the record is unknown
		}
		return Reply{}, &DamagedError{r.Texts[0]}
	}
	return r, nil
}

// errTexts means that a reply does not have the texts that it announces.
var errTexts = errors.New("redisidem: the lengths in the server's reply do not fit its texts")

// parseTexts reads the texts of a reply: a line with the length of each but the last, and the
// texts.
func parseTexts(s string) ([]string, error) {
	lengths, rest, found := strings.Cut(s, "\n")
	if !found {
		return nil, errTexts
	}
	if lengths == "" {
		return []string{rest}, nil
	}
	texts := make([]string, 0, strings.Count(lengths, " ")+2)
	for more := true; more; {
		var word string
		word, lengths, more = strings.Cut(lengths, " ")
		n, err := strconv.Atoi(word)
		if err != nil || n < 0 || n > len(rest) {
			return nil, errTexts
		}
		texts, rest = append(texts, rest[:n]), rest[n:]
	}
	return append(texts, rest), nil
}

// number returns the n-th of the reply's numbers, counted from 0; "" when there are fewer.
func (r Reply) number(n int) string {
	word, rest, _ := strings.Cut(r.numbers, " ")
	for range n {
		word, rest, _ = strings.Cut(rest, " ")
	}
	return word
}

// Text returns the first of the reply's texts, or an error if the reply does not have one.
func (r Reply) Text() (string, error) {
	if len(r.Texts) == 0 {
		return "", fmt.Errorf("redisidem: the server's %s reply has no text", r.Status)
	}
	return r.Texts[0], nil
}

// Unexpected returns the error for a status that the caller does not know. The server's script and
// this library do not match then.
func (r Reply) Unexpected() error {
	return fmt.Errorf("redisidem: %s answered %q", r.script.Name, r.Status)
}

// Created is the reply about a new record.
type Created struct {
	At         time.Time
	Generation int64 // how many records were deleted before, each within a retention of the next
}

// Created reads the CREATED reply to a create.
func (r Reply) Created() (Created, error) { return r.created(1) }

// created reads when a record was made, which is the first number, and its generation, which is the
// n-th.
func (r Reply) created(n int) (c Created, err error) {
	if c.At, err = parseTime("the record's creation", r.number(0)); err != nil {
		return Created{}, err
	}
	if generation := r.number(n); generation != "" {
		c.Generation, err = parseCount("generation", generation)
	}
	return c, err
}

// Granted is the OWN reply to a claim: the lease.
type Granted struct {
	Fence    int64
	Attempts int       // at the key
	Attempt  int       // at the stage, counted from 1
	At       time.Time // of the claim
}

// Granted reads the OWN reply to a claim.
func (r Reply) Granted() (g Granted, err error) {
	fence, err := parseCount("fence", r.number(0))
	attempts, err1 := parseCount("attempts", r.number(1))
	attempt, err2 := parseCount("attempts of this revision", r.number(2))
	at, err3 := time.UnixMicro(fence).UTC(), error(nil)
	if text := r.number(3); text != "" {
		at, err3 = parseTime("time of the claim", text)
	}
	if err := errors.Join(err, err1, err2, err3); err != nil {
		return Granted{}, err
	}
	return Granted{Fence: fence, Attempts: int(attempts), Attempt: int(attempt), At: at}, nil
}

// GrantedNew reads, from an OWN reply to a claim that has made the record, when it was made.
func (r Reply) GrantedNew() (Created, error) { return r.created(4) }

// GrantedSeen reads an OWN reply to a claim with a [Seen]. It returns the values that can have
// changed since the record was read. flow is the key's flow, "" without one; deadLetter reports
// whether the key is a dead letter.
func (r Reply) GrantedSeen() (flow string, deadLetter bool) {
	if flow = r.number(4); flow == "-" {
		flow = ""
	}
	return flow, r.number(5) == "1"
}

// InterimAge reads from the INTERIM reply to a claim how old the interim answer is.
func (r Reply) InterimAge() (time.Duration, error) {
	age, err := parseCount("age of the interim answer", r.number(0))
	return time.Duration(age) * time.Microsecond, err
}

// RecordLife reads from a reply about a finished record how long that lives. It reports false for a
// record without an expiry.
func (r Reply) RecordLife() (life time.Duration, expires bool, err error) {
	left := r.number(0)
	if left == "-1" {
		return 0, false, nil
	}
	ms, err := parseCount("the record's remaining life", left)
	return remaining(ms), true, err
}

// LockLife reads from a BUSY reply how long the lock lives. It reports false for a lock without an
// expiry.
func (r Reply) LockLife() (life time.Duration, expires bool, err error) {
	left, err := strconv.ParseInt(r.number(0), 10, 64)
	if err != nil {
		return 0, false, &DamagedError{"the lock's remaining time is not a number"}
	}
	return remaining(left), left != -1, nil
}

// maxLife keeps remaining lives in range.
const maxLife = 100 * 365 * 24 * time.Hour

// remaining converts the remaining life of a Redis key from milliseconds. A user with write access
// can set more than a duration can hold.
func remaining(milliseconds int64) time.Duration {
	return time.Duration(min(max(milliseconds, 0), maxLife.Milliseconds())) * time.Millisecond
}

// Committed reads the OK reply to a commit: the server's time of the commit, and whether the lease
// is still held.
func (r Reply) Committed() (at time.Time, held bool, err error) {
	at, err = parseTime("time of the commit", r.number(1))
	return at, r.number(0) == "1", err
}

// notKept returns the OK reply to a commit as one of a commit that has not kept the lease.
func (r Reply) notKept() Reply {
	_, at, _ := strings.Cut(r.numbers, " ")
	r.numbers = "0 " + at
	return r
}

// RefusedEffect reads the EFFECT reply to a commit with n effects: the effect's index and why it
// was refused.
func (r Reply) RefusedEffect(n int) (index int, reason string, err error) {
	if reason, err = r.Text(); err != nil {
		return 0, "", err
	}
	index, err = strconv.Atoi(r.number(0))
	if err != nil || index < 0 || index >= n {
		return 0, "", fmt.Errorf("redisidem: the server refuses effect %q of %d", r.number(0), n)
	}
	return index, reason, nil
}

// Canceled reports, from the LOST reply to a renewal, whether the key was canceled.
func (r Reply) Canceled() bool { return r.number(0) == "1" }

// DeadLettered reports, from the reply to an abandon, whether the key is a dead letter now.
func (r Reply) DeadLettered() bool { return r.number(0) == "1" }

// MetClaim reports, from the reply to an abandon, whether the claim can no longer arrive after it.
func (r Reply) MetClaim() bool { return r.number(1) == "1" }

// HandedOut is the OK reply to a due call.
type HandedOut struct {
	Digests []string // the keys that are due
	Score   string   // that the index gives them while they are hidden
	Until   string   // the time up to which the index was read
	// First is the lowest score that the index has now, in milliseconds. It is [Empty] without any
	// and 0 if it cannot be read.
	First int64
}

// Empty is the lowest score of an index without keys.
const Empty = math.MaxInt64

// HandedOut reads the OK reply to a due call.
func (r Reply) HandedOut() HandedOut {
	h := HandedOut{Digests: r.Texts, Score: r.number(0), Until: r.number(1), First: Empty}
	if first := r.number(2); first != "-" {
		h.First, _ = parseCount("score", first)
	}
	return h
}

// More reports whether keys were left that were due when the index was first read.
func (h HandedOut) More() bool {
	until, err := parseCount("until", h.Until)
	return err == nil && h.First <= until
}

func parseCount(field, s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, &DamagedError{field + " is not a number"}
	}
	return n, nil
}

// parseTime reads the server's time in microseconds.
func parseTime(field, s string) (time.Time, error) {
	n, err := parseCount(field, s)
	return time.UnixMicro(n).UTC(), err
}
