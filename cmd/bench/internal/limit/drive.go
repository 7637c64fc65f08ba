package limit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Depth is the number of lifecycles in one pipeline.
const Depth = 100

// wires is the number of connections. While the replies of one are read, the server works for the
// other.
const wires = 2

var runs atomic.Int64

// Run is the result of a run.
type Run struct {
	Count   int64
	Elapsed time.Duration
	name    string
}

// Lifecycles runs whole lifecycles until d is over or count are done, whichever comes first. A
// count of 0 means no limit. It reads and checks every reply.
func Lifecycles(ctx context.Context, addr string, t *Template, d time.Duration, count int64) (Run, error) {
	return drive(ctx, addr, fresh(), d, count, func(w *wire, first uint64) error { return w.lifecycles(t, first) })
}

// Sets is like Lifecycles, with plain SETs with an expiry. The value has the same size as a
// lifecycle's response.
func Sets(ctx context.Context, addr string, d time.Duration, count int64) (Run, error) {
	value := strings.Repeat("x", exampleSize)
	return drive(ctx, addr, fresh(), d, count, func(w *wire, first uint64) error { return w.sets(value, first) })
}

// Remove removes the keys of a run of Lifecycles or Sets.
func (r Run) Remove(ctx context.Context, addr string, t *Template) error {
	_, err := drive(ctx, addr, r.name, forever, r.Count, func(w *wire, first uint64) error { return w.remove(t, first) })
	return err
}

const forever = 24 * time.Hour

func fresh() string { return strconv.FormatInt(runs.Add(1), 36) + "x" }

func drive(ctx context.Context, addr, run string, d time.Duration, count int64, batch func(w *wire, first uint64) error) (
	Run, error,
) {
	var next, done atomic.Int64
	var running sync.WaitGroup
	errs := make([]error, wires)
	began := time.Now()
	for i := range wires {
		running.Go(func() {
			errs[i] = func() error {
				w, err := dial(ctx, addr, run)
				if err != nil {
					return err
				}
				defer func() { _ = w.conn.Close() }() // all replies have been read
				for ctx.Err() == nil && time.Since(began) < d {
					first := next.Add(Depth) - Depth
					if count > 0 && first >= count {
						break
					}
					if err := batch(w, uint64(first)); err != nil {
						return err
					}
					done.Add(Depth)
				}
				return ctx.Err()
			}()
		})
	}
	running.Wait()
	return Run{done.Load(), time.Since(began), run}, errors.Join(errs...)
}

// wire is a bare connection.
type wire struct {
	conn  net.Conn
	in    *bufio.Reader
	out   []byte
	run   string
	names names
	fence [Depth][]byte
	words [8][]byte // of the last reply's first line
}

func dial(ctx context.Context, addr, run string) (*wire, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &wire{conn: conn, in: bufio.NewReaderSize(conn, 256<<10), run: run}, nil
}

func (w *wire) lifecycles(t *Template, first uint64) error {
	w.out = w.out[:0]
	for i := range uint64(Depth) {
		t.fill(&w.names, w.run, first+i)
		w.out = w.names.appendCommand(w.out, t.Claim)
	}
	if _, err := w.conn.Write(w.out); err != nil {
		return err
	}
	for i := range Depth {
		if err := w.expect("OWN", 3); err != nil {
			return fmt.Errorf("claim: %w", err)
		}
		w.fence[i] = append(w.fence[i][:0], w.words[2]...) // follows the token
	}
	w.out = w.out[:0]
	for i := range uint64(Depth) {
		t.fill(&w.names, w.run, first+i)
		w.names.fence = w.fence[i]
		w.out = w.names.appendCommand(w.out, t.Commit)
	}
	if _, err := w.conn.Write(w.out); err != nil {
		return err
	}
	for range Depth {
		if err := w.expect("OK", 3); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
	}
	return nil
}

func (w *wire) sets(value string, first uint64) error {
	w.out = w.out[:0]
	for i := range uint64(Depth) {
		w.out = append(w.out, "*5\r\n"...)
		w.out = appendWord(w.out, "SET")
		w.out = appendWord(w.out, w.setName(first+i))
		w.out = appendWord(w.out, value)
		w.out = appendWord(w.out, "PX")
		w.out = appendWord(w.out, "86400000")
	}
	if _, err := w.conn.Write(w.out); err != nil {
		return err
	}
	for range Depth {
		if err := w.expect("OK", 1); err != nil {
			return err
		}
	}
	return nil
}

// setName returns the name of a plain key, about as long as a record's.
func (w *wire) setName(n uint64) string {
	return fmt.Sprintf("%-52s", "set:"+w.run+strconv.FormatUint(n, 36))
}

func (w *wire) remove(t *Template, first uint64) error {
	w.out = append(w.out[:0], fmt.Sprintf("*%d\r\n", 1+2*Depth)...)
	w.out = appendWord(w.out, "DEL")
	for i := range uint64(Depth) {
		t.fill(&w.names, w.run, first+i)
		w.out = appendWord(w.out, w.names.record)
		w.out = appendWord(w.out, w.setName(first+i))
	}
	if _, err := w.conn.Write(w.out); err != nil {
		return err
	}
	line, err := w.line()
	if err == nil && string(line) != fmt.Sprint(":", Depth) {
		err = fmt.Errorf("DEL of %d keys says %q", Depth, line)
	}
	return err
}

// expect reads a reply and checks its first word and the minimum number of words.
func (w *wire) expect(first string, least int) error {
	n, err := w.reply()
	if err != nil {
		return err
	}
	if n < least || string(w.words[0]) != first {
		return fmt.Errorf("the reply is %q", w.words[:min(n, len(w.words))])
	}
	return nil
}

// reply reads a reply of one line, or of one text whose first line counts. It keeps the first words
// and returns the number of words.
func (w *wire) reply() (int, error) {
	line, err := w.line()
	if err != nil {
		return 0, err
	}
	switch line[0] {
	case '+':
		return w.keep(line[1:]), nil
	case '$':
		n, err := strconv.Atoi(string(line[1:]))
		if err != nil || n < 0 {
			return 0, fmt.Errorf("a text has the length %q", line)
		}
		text, err := w.in.Peek(n + 2)
		if err != nil {
			return 0, err
		}
		first, _, _ := bytes.Cut(text[:n], []byte("\n"))
		kept := w.keep(first)
		_, err = w.in.Discard(n + 2)
		return kept, err
	default:
		return 0, fmt.Errorf("the server says %q", line)
	}
}

// keep keeps the first words of a line, and returns the number of words.
func (w *wire) keep(line []byte) int {
	n := 0
	for n < len(w.words) && len(line) > 0 {
		word, rest, _ := bytes.Cut(line, []byte(" "))
		w.words[n] = append(w.words[n][:0], word...)
		line = rest
		n++
	}
	return n
}

func (w *wire) line() ([]byte, error) {
	line, err := w.in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 3 {
		return nil, fmt.Errorf("the server says %q", line)
	}
	return line[:len(line)-2], nil
}
