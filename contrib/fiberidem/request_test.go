package fiberidem_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
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

// TestUnreadStreamEndsTheConnection sends a refused request whose body looks like another request,
// over one connection. A proxy in front may share that connection between clients.
func TestUnreadStreamEndsTheConnection(t *testing.T) {
	t.Parallel()
	const inner = "POST /orders/7 HTTP/1.1\r\nHost: a\r\nX-Caller: mallory\r\nIdempotency-Key: inner\r\nContent-Length: 0\r\n\r\n"
	sized := strings.Repeat("x", 8<<10) + inner // fasthttp has read the first 8 KiB itself
	for name, request := range map[string]struct {
		head, body string
		status     int
	}{
		"too large":              {"Idempotency-Key: k\r\nX-Caller: alice\r\n", sized, 413},
		"no key":                 {"X-Caller: alice\r\n", sized, 400},
		"no key, chunked":        {"X-Caller: alice\r\n", "", 400},
		"no caller":              {"Idempotency-Key: k\r\n", sized, 500},
		"too large, chunked":     {"Idempotency-Key: k\r\nX-Caller: alice\r\n", "", 413},
		"the handler reads none": {"Idempotency-Key: k\r\nX-Caller: alice\r\nX-Optional: yes\r\n", "", 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := &httpidem.Config{MaxBodyBytes: 10}
			if request.status == 200 {
				cfg.PassTooLarge, cfg.Key.Optional = true, true
			}
			s := openApp(t, fiber.New(fiber.Config{StreamRequestBody: true}), cfg, func(c fiber.Ctx) error { return c.SendString("ran") })
			length := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(request.body), request.body)
			if request.body == "" {
				// The first chunk has the bytes that the middleware reads.
				length = "Transfer-Encoding: chunked\r\n\r\n" + "200\r\n" + strings.Repeat("x", 0x200) + "\r\n" +
					fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(inner), inner)
			}
			answers := exchange(t, s.URL, "POST /orders/7 HTTP/1.1\r\nHost: a\r\n"+request.head+length)
			if len(answers) != 1 || answers[0].StatusCode != request.status || !answers[0].Close {
				t.Errorf("got %d answers, the first with %d, close %t", len(answers), answers[0].StatusCode, answers[0].Close)
			}
		})
	}
}

// TestReadStreamKeepsTheConnection has refusals and responses without an unread body.
func TestReadStreamKeepsTheConnection(t *testing.T) {
	t.Parallel()
	s := openApp(t, fiber.New(fiber.Config{StreamRequestBody: true}), nil, func(c fiber.Ctx) error { return c.SendString("ran") })
	const first = "POST /orders/7 HTTP/1.1\r\nHost: a\r\nX-Caller: alice\r\nIdempotency-Key: k\r\nTransfer-Encoding: chunked\r\n\r\n"
	answers := exchange(t, s.URL, first+"1\r\nx\r\n0\r\n\r\n"+ // it runs
		first+"1\r\nx\r\n0\r\n\r\n"+ // it is replayed
		first+"1\r\ny\r\n0\r\n\r\n"+ // another body
		"POST /orders/7 HTTP/1.1\r\nHost: a\r\nX-Caller: alice\r\nContent-Length: 0\r\n\r\n"+ // no key
		"POST /orders/7 HTTP/1.1\r\nHost: a\r\nX-Caller: alice\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	var statuses []int
	for _, a := range answers {
		statuses = append(statuses, a.StatusCode)
	}
	if !slices.Equal(statuses, []int{200, 200, 422, 400, 400}) {
		t.Errorf("got %v", statuses)
	}
}

// exchange sends text over one connection, and returns the answers until the server closes it.
func exchange(t *testing.T, address, text string) (answers []*http.Response) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	from := bufio.NewReader(conn)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		a, err := http.ReadResponse(from, nil)
		if err != nil {
			return answers
		}
		if _, err := io.Copy(io.Discard, a.Body); err != nil {
			t.Fatal(err)
		}
		_ = a.Body.Close()
		answers = append(answers, a)
	}
}

// TestSpooledStreamIsGoneAfterwards has a middleware in front that asks for a body after its file
// was removed.
func TestSpooledStreamIsGoneAfterwards(t *testing.T) {
	t.Parallel()
	spool, err := httpidem.NewSpool(&httpidem.SpoolConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	logged := make(chan string, 1)
	s := openApp(t, fiber.New(fiber.Config{StreamRequestBody: true}), &httpidem.Config{
		Spool: spool, MaxBodyBytes: 1 << 20, PassTooLarge: true, Key: httpidem.KeyConfig{Optional: true},
	}, func(c fiber.Ctx) error { return c.SendString("done") }, func(c fiber.Ctx) error {
		err := c.Next()
		logged <- string(c.Body())
		return err
	})
	for key, size := range map[string]int{"kept": 1 << 19, "too-large": 1<<20 + 1<<17} {
		for _, change := range []func(*http.Request){func(*http.Request) {}, chunked} {
			if a := s.Post(key, strings.Repeat("x", size), change); a.StatusCode != http.StatusOK {
				t.Errorf("%s: %d", key, a.StatusCode)
			}
			if got := <-logged; strings.Trim(got, "x") != "" {
				t.Errorf("%s: the middleware got %.60q", key, got)
			}
		}
	}
}
