// Package progress shows how far a long run is.
package progress

import (
	"io"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// Bar is a progress bar with the time that is left. A nil Bar shows nothing.
type Bar struct {
	bar   *progressbar.ProgressBar
	room  int  // for a label; 0: any
	begun bool // the first step
}

// New returns a bar of so many steps on w, or nil when w is no terminal, where a bar would be noise.
func New(w io.Writer, steps int) *Bar {
	f, ok := w.(*os.File)
	if !ok || f == nil || steps <= 0 || !isatty.IsTerminal(f.Fd()) {
		return nil
	}
	return draw(f, steps, Width(f))
}

// Width is that of the terminal behind a file, and 0 where there is none.
func Width(f *os.File) int {
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// columns is how many the bar has, and beside how many its percentage and times take at most.
const columns, beside = 12, 32

func draw(w io.Writer, steps, width int) *Bar {
	room := 0
	if width > 0 {
		room = max(1, width-columns-beside)
	}
	return &Bar{room: room, bar: progressbar.NewOptions(steps,
		progressbar.OptionSetWriter(w), progressbar.OptionSetWidth(columns), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish())}
}

// Step tells that the next step has begun, which ends the one before, and what it is.
func (b *Bar) Step(label string) {
	if b == nil {
		return
	}
	if r := []rune(label); b.room > 0 && len(r) > b.room {
		label = string(r[:b.room-1]) + "…" // a line that wraps cannot be taken off the screen
	}
	b.bar.Describe(label)
	if b.begun {
		_ = b.bar.Add(1) // more steps than were announced are only a picture's fault
	}
	b.begun = true
}

// Clear takes the bar off the screen, until the next step.
func (b *Bar) Clear() {
	if b != nil {
		_ = b.bar.Clear() // only a picture
	}
}

// Done takes the bar off the screen for good.
func (b *Bar) Done() {
	if b != nil {
		_ = b.bar.Finish() // only a picture
	}
}
