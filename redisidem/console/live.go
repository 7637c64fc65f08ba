package console

import (
	"bytes"
	"net/http"
	"time"
)

const (
	// maxStreams is how many pages can be live at a time. Each one has a connection.
	maxStreams = 64
	// streamLife is how long a stream lasts. The browser then opens another one, which is
	// authorized again.
	streamLife = 10 * time.Minute
	// streamWrite is how long a browser may take to receive an update.
	streamWrite = 10 * time.Second
)

// showLive sends the changing part of the overview again and again, as server-sent events.
func (c *Console) showLive(v *visit) error {
	select {
	case c.streams <- struct{}{}:
		defer func() { <-c.streams }()
	default:
		return errManyStreams
	}
	v.w.Header().Set("Content-Type", "text/event-stream")
	v.w.Header().Set("X-Accel-Buffering", "no") // for proxies that would collect the events
	to := http.NewResponseController(v.w)
	ctx := v.r.Context()
	end := time.NewTimer(streamLife)
	defer end.Stop()
	tick := time.NewTicker(c.cfg.Refresh)
	defer tick.Stop()
	for {
		o, err := c.overviewNow(ctx)
		if err != nil {
			return nil // the browser has left
		}
		part, err := v.execute("overview", "live", "", &o)
		if err != nil {
			return err
		}
		// Without deadlines, the server's own holds.
		_ = to.SetWriteDeadline(time.Now().Add(streamWrite + c.cfg.Refresh))
		if _, err := v.w.Write(event("overview", part)); err != nil {
			return nil
		}
		if err := to.Flush(); err != nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-end.C:
			return nil
		case <-c.closed:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// event returns a server-sent event.
func event(name string, data []byte) []byte {
	var b bytes.Buffer
	b.WriteString("event: " + name + "\n")
	for line := range bytes.Lines(data) {
		b.WriteString("data: ")
		b.Write(bytes.TrimRight(line, "\r\n"))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	return b.Bytes()
}
