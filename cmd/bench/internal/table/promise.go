package table

import (
	"fmt"
	"io"
	"strings"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// Promises writes which contenders keep the promise, and how the others break it, in lines of at
// most width.
func Promises(w io.Writer, promises []result.Promise, width int) error {
	if len(promises) == 0 {
		return nil
	}
	about := fmt.Sprintf("The promise: one request that %d callers of two replicas send at once runs once, and a worker whose lease has "+
		"ended is refused once another one has the request.", promises[0].Callers)
	if _, err := fmt.Fprintf(w, "\n%s\n\n", wrap(about, width)); err != nil {
		return err
	}
	for i := range promises {
		p := &promises[i]
		text := "  kept    " + p.Title
		switch {
		case p.Skipped:
			text = "  -       " + p.Title + ": left out: " + p.Error
		case p.Error != "":
			text = "  FAILED  " + p.Title + ": " + p.Error
		case !p.Kept():
			text = "  broken  " + p.Title + ": " + Broken(p)
		}
		text = strings.ReplaceAll(text, "\n", "; ")
		head, rest := text[:10], text[10:]
		if _, err := fmt.Fprintln(w, head+strings.ReplaceAll(wrap(rest, width-len(head)), "\n", "\n          ")); err != nil {
			return err
		}
	}
	return nil
}

// Broken describes how a contender breaks the promise.
func Broken(p *result.Promise) string {
	var said []string
	if !p.Ran() {
		said = append(said, fmt.Sprintf("the request ran %d times, with %d different answers", p.Runs, p.Answers))
	}
	switch {
	case p.LateFirst == result.LateStored && p.LateLast == result.LateStored:
		said = append(said, "the late worker's answer is stored in place of the holder's")
	case p.LateFirst == result.LateStored:
		said = append(said, "the late worker's answer is stored if it is ready first, and the holder's is lost")
	case p.LateLast == result.LateStored:
		said = append(said, "the late worker's answer replaces the stored one")
	case !p.Fenced():
		said = append(said, "the late worker gets no error")
	}
	return strings.Join(said, "; ")
}
