package history

import (
	"fmt"
	"strconv"
	"strings"
)

// Kind is the kind of an event.
type Kind string

// The kinds of events. The token of a callback is unique and is part of the result that it commits.
const (
	Began     Kind = "began"     // a callback: Text is the chain that it found
	Left      Kind = "left"      // a callback is about to check its context for the last time
	Committed Kind = "committed" // the caller was informed that the callback's result is stored
	Fenced    Kind = "fenced"    // the caller was informed that the callback's result was refused
	GaveUp    Kind = "gave-up"   // the callback returned an error, so that nothing is stored
	Unknown   Kind = "unknown"   // the outcome is unknown
	Answered  Kind = "answered"  // a caller got the key's answer: Text is the chain in it
	Failed    Kind = "failed"    // an unexpected error: Text
	Resolving Kind = "resolving" // an operator is about to give the key its final answer by hand
	Stopped   Kind = "stopped"   // the worker is stopped for longer than a lease
)

// Event is one report of a worker. An event about the whole worker has no key.
type Event struct {
	Kind     Kind
	Worker   string
	Key      string
	Revision int64
	Fence    int64
	Attempt  int
	Lost     bool // the callback's context was cancelled because of its lease
	Token    string
	Text     string
}

// As returns the event with another kind and without its text.
func (e Event) As(kind Kind) Event {
	e.Kind, e.Text = kind, ""
	return e
}

// nothing represents an empty word.
const nothing = "-"

// String returns the event as one line, which [Parse] reads.
func (e Event) String() string {
	word := func(s string) string {
		if s == "" {
			return nothing
		}
		return s
	}
	return fmt.Sprintf("%s %s %s %d %d %d %t %s %s", e.Kind, word(e.Worker), word(e.Key), e.Revision, e.Fence, e.Attempt, e.Lost,
		word(e.Token), strconv.Quote(e.Text))
}

// Parse parses a line that [Event.String] returned.
func Parse(line string) (Event, error) {
	words := strings.SplitN(line, " ", 9)
	if len(words) != 9 {
		return Event{}, fmt.Errorf("history: a line of %d words: %q", len(words), line)
	}
	for i, w := range words {
		if w == nothing {
			words[i] = ""
		}
	}
	e := Event{Kind: Kind(words[0]), Worker: words[1], Key: words[2], Lost: words[6] == "true", Token: words[7]}
	var errs [4]error
	e.Revision, errs[0] = strconv.ParseInt(words[3], 10, 64)
	e.Fence, errs[1] = strconv.ParseInt(words[4], 10, 64)
	e.Attempt, errs[2] = strconv.Atoi(words[5])
	e.Text, errs[3] = strconv.Unquote(words[8])
	for _, err := range errs {
		if err != nil {
			return Event{}, fmt.Errorf("history: %q: %w", line, err)
		}
	}
	return e, nil
}
