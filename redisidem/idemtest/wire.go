package idemtest

import (
	"sync"

	"github.com/redisidem/redisidem/lua"
)

// wire is the line of one process, on which single messages can get lost.
type wire struct {
	line *line

	mu     sync.Mutex
	script string // whose next call has the fate
	fate   fate
	lost   func() // for when it has been fulfilled
}

func newWire() *wire {
	w := &wire{line: newLine(nil)}
	w.line.watch = w.watch
	return w
}

// cut breaks all connections and refuses new ones, until mend.
func (w *wire) cut() { w.line.set(refusing) }

func (w *wire) mend() { w.line.set(passing) }

// lose lets the next call of a script, or the reply to it, get lost with its connection. lost runs then, and may be nil.
func (w *wire) lose(s *lua.Script, f fate, lost func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.script, w.fate, w.lost = s.Name, f, lost
}

// waits reports whether something is still to get lost.
func (w *wire) waits() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.script != ""
}

func (w *wire) watch(s *lua.Script) (f fate, struck func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.Name != w.script {
		return pass, nil
	}
	return w.fate, func() {
		w.mu.Lock()
		lost := w.lost
		w.script = ""
		w.mu.Unlock()
		if lost != nil {
			lost()
		}
	}
}
