package fiberidem_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v3"

	"github.com/redisidem/redisidem/internal/adaptertest"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// chunked makes a request send its body without its length.
func chunked(r *http.Request) { r.ContentLength = -1 }

// TestSpooledBodiesStayInTheirFile has a handler that reads its body as a stream.
func TestSpooledBodiesStayInTheirFile(t *testing.T) {
	t.Parallel()
	spool, err := httpidem.NewSpool(&httpidem.SpoolConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Repeat("spooled ", 100_000)
	s := openApp(t, fiber.New(fiber.Config{StreamRequestBody: true}), &httpidem.Config{Spool: spool}, func(c fiber.Ctx) error {
		if !c.Request().IsBodyStream() {
			t.Error("the body is in memory")
			return nil
		}
		if n := spool.Bytes(); n != int64(len(body)) {
			t.Errorf("%d bytes are in files", n)
		}
		n, err := io.Copy(io.Discard, c.Request().BodyStream())
		if err != nil {
			return err
		}
		return c.SendString(fmt.Sprint(n))
	})
	for key, change := range map[string]func(*http.Request){"length": func(*http.Request) {}, "chunked": chunked} {
		first := s.Post(key, body, change)
		if first.Body != fmt.Sprint(len(body)) {
			t.Errorf("%s: got %d %q", key, first.StatusCode, first.Body)
		}
		adaptertest.WantReplay(t, s.Post(key, body, change), first)
	}
	if n := spool.Bytes(); n != 0 {
		t.Errorf("%d bytes stay in files", n)
	}
}

// frontKey is the key of a value that a middleware in front sets, in c.Locals and in the context.
type frontKey struct{}

func setFront(c fiber.Ctx) {
	c.Locals(frontKey{}, "local")
	c.Locals("user", "alice")
	c.SetContext(context.WithValue(c.Context(), frontKey{}, "context"))
}

// wantFront checks that a request still has the values of setFront.
func wantFront(t testing.TB, c fiber.Ctx) {
	t.Helper()
	local, user, value := c.Locals(frontKey{}), c.Locals("user"), c.Context().Value(frontKey{})
	if local != "local" || user != "alice" || value != "context" {
		t.Errorf("the locals are %v and %v, and the context has %v", local, user, value)
	}
}

// TestTooLargeStreamsPassAsTheyCome has a client that sends the rest of a body after the handler
// has read its beginning.
func TestTooLargeStreamsPassAsTheyCome(t *testing.T) {
	t.Parallel()
	const beginning, rest = "more than ten bytes", ", and the rest"
	arrived := make(chan struct{})
	s := openApp(t, fiber.New(fiber.Config{StreamRequestBody: true}), &httpidem.Config{
		MaxBodyBytes: 10, PassTooLarge: true, Key: httpidem.KeyConfig{Optional: true},
	}, func(c fiber.Ctx) error {
		wantFront(t, c)
		stream := c.Request().BodyStream()
		text := make([]byte, len(beginning))
		if _, err := io.ReadFull(stream, text); err != nil {
			return err
		}
		close(arrived)
		more, err := io.ReadAll(stream)
		if err != nil {
			return err
		}
		return c.SendString(string(text) + string(more) + c.Get("X-Sum"))
	}, func(c fiber.Ctx) error {
		setFront(c)
		err := c.Next()
		wantFront(t, c)
		return err
	})
	read, write := io.Pipe()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go func() {
		_, _ = io.WriteString(write, beginning)
		select {
		case <-arrived:
			_, _ = io.WriteString(write, rest)
		case <-ctx.Done():
		}
		_ = write.Close()
	}()
	a, err := adaptertest.Try(ctx, s.URL, "k", "", chunked, func(r *http.Request) {
		r.Body = read
		r.Header.Set("X-Sum", "!")
	})
	if err != nil || a.Body != beginning+rest+"!" {
		t.Errorf("got %q, %v", a.Body, err)
	}
}

// TestMiddlewareInFrontMayAskForAStream has a middleware that asks for the body after the handlers,
// as one does that writes a log.
func TestMiddlewareInFrontMayAskForAStream(t *testing.T) {
	t.Parallel()
	logged := make(chan string, 1)
	s := openApp(t, fiber.New(fiber.Config{StreamRequestBody: true}), nil, func(c fiber.Ctx) error {
		if c.Get("X-Reads") != "" {
			_ = c.Body()
		}
		return c.SendString("done")
	}, func(c fiber.Ctx) error {
		err := c.Next()
		logged <- string(c.Body())
		return err
	})
	for _, reads := range []string{"", "yes"} {
		for _, want := range []string{"body", ""} { // a replay has read the body, and runs no handler
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			_, err := adaptertest.Try(ctx, s.URL, "k"+reads, "body", chunked, func(r *http.Request) { r.Header.Set("X-Reads", reads) })
			cancel()
			if err != nil {
				t.Fatalf("%q: %v", reads, err)
			}
			if got := <-logged; got != want {
				t.Errorf("%q: the middleware got %q, want %q", reads, got, want)
			}
		}
	}
}
