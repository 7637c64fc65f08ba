// Package progress shows the progress of a long run.
package progress

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// Bar is a progress bar with an estimate of the remaining time on a terminal, and a line for each
// tenth of the steps elsewhere. A nil Bar shows nothing.
type Bar struct {
	bar   *progressbar.ProgressBar // nil: lines
	room  int                      // width for a label; 0: no limit
	begun bool                     // whether there was a step

	w            io.Writer
	steps, taken int
	shown        int // tenths that have a line
}

// New returns a bar with this many steps on w, or nil if steps is not positive.
func New(w io.Writer, steps int) *Bar {
	if steps <= 0 {
		return nil
	}
	if f, ok := w.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		return draw(f, steps, Width(f))
	}
	return &Bar{w: w, steps: steps, shown: -1}
}

// Width returns the width of the terminal behind a file, or 0 if it is not a terminal.
func Width(f *os.File) int {
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// columns is the width of the bar. beside is the width of its percentage and times.
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

// Step ends the previous step and shows the label of the next one.
func (b *Bar) Step(label string) {
	if b == nil {
		return
	}
	if b.bar == nil {
		b.line(label)
		return
	}
	if r := []rune(label); b.room > 0 && len(r) > b.room {
		label = string(r[:b.room-1]) + "…" // a line that wraps cannot be removed from the screen
	}
	b.bar.Describe(label)
	if b.begun {
		_ = b.bar.Add(1) // the bar is only a display: more steps than announced are not an error
	}
	b.begun = true
}

// line writes a line if the step before ended a tenth.
func (b *Bar) line(label string) {
	if tenth := min(10*b.taken/b.steps, 9); tenth > b.shown {
		b.shown = tenth
		_, _ = fmt.Fprintf(b.w, "%d %% %s\n", 10*tenth, label) // only a display
	}
	b.taken++
}

// Clear removes the bar from the screen until the next step.
func (b *Bar) Clear() {
	if b != nil && b.bar != nil {
		_ = b.bar.Clear() // the bar is only a display
	}
}

// Done removes the bar from the screen.
func (b *Bar) Done() {
	if b != nil && b.bar != nil {
		_ = b.bar.Finish() // the bar is only a display
	}
}
