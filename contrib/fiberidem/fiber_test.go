package fiberidem_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"
	"github.com/gofiber/fiber/v3/middleware/compress"
	"github.com/gofiber/fiber/v3/middleware/recover"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/contrib/fiberidem"
	"github.com/redisidem/redisidem/internal/adaptertest"
	"github.com/redisidem/redisidem/internal/httpclause"
	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestMain(m *testing.M) {
	redis.SetLogger(adaptertest.Quiet{})
	leak.Lasting("github.com/valyala/fasthttp.updateServerDate", "github.com/valyala/fasthttp.(*inMemoryCacheManager).handleCleanCache",
		"github.com/valyala/fasthttp/stackless.funcWorker")
	leak.Main(m)
}

// TestDraft runs the clauses of the draft against a Fiber app.
func TestDraft(t *testing.T) {
	t.Parallel()
	httpclause.Run(t, func(t *testing.T, o httpclause.Options, backend http.Handler) *httpclause.Target {
		cfg := &httpidem.Config{
			Key: httpidem.KeyConfig{Strict: o.Strict, Optional: o.Optional}, Methods: o.Methods, PolicyURL: o.PolicyURL, PublishRetention: o.PublishRetention,
		}
		if o.UUIDs {
			cfg.Key.Check = httpidem.UUIDKeys
		}
		if o.Window > 0 {
			cfg.Key.Check = httpidem.KeysWithin(o.Window, o.Window)
		}
		if o.JSONFields != nil {
			cfg.Fingerprint.Func = httpidem.JSONFields(o.JSONFields...)
		}
		if o.KeepAll {
			cfg.Response.Status = httpidem.KeepAll
		}
		s := adaptertest.NewStore(t)
		app := fiber.New(fiber.Config{ReadBufferSize: 1 << 15}) // a clause sends a long key
		app.Use(fiberidem.New(s.Middleware(cfg)))
		app.All("/*", adaptor.HTTPHandler(backend))
		return &httpclause.Target{
			URL:        serve(t, app),
			As:         func(r *http.Request, name string) { r.Header.Set(adaptertest.CallerHeader, name) },
			StoreCalls: func() int { return int(s.Calls.Load()) },
		}
	})
}

// shop is an app whose handlers' runs are counted.
type shop struct {
	*adaptertest.Store
	m    *httpidem.Middleware
	url  string
	runs atomic.Int64
}

// open serves one handler at /orders/:shelf. What stands in front of the middleware can be given.
func open(t *testing.T, cfg *httpidem.Config, handler fiber.Handler, front ...any) *shop {
	t.Helper()
	return openApp(t, fiber.New(), cfg, handler, front...)
}

func openApp(t *testing.T, app *fiber.App, cfg *httpidem.Config, handler fiber.Handler, front ...any) *shop {
	t.Helper()
	s := &shop{Store: adaptertest.NewStore(t)}
	s.m = s.Middleware(cfg)
	if len(front) > 0 {
		app.Use(front...)
	}
	app.Use(fiberidem.New(s.m))
	app.Post("/orders/:shelf", func(c fiber.Ctx) error {
		s.runs.Add(1)
		return handler(c)
	})
	s.url = serve(t, app) + "/orders/7"
	return s
}

func (s *shop) ran(want int64) {
	s.Helper()
	if got := s.runs.Load(); got != want {
		s.Errorf("the handler ran %d times, want %d", got, want)
	}
}

func TestAnswersAreReplayed(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file.csv")
	if err := os.WriteFile(file, []byte("a,b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	type order struct{ Item string }
	for name, answerWith := range map[string]fiber.Handler{
		"JSON": func(c fiber.Ctx) error {
			return c.Status(201).JSON(fiber.Map{"shelf": c.Params("shelf"), "path": c.FullPath()})
		},
		"String":       func(c fiber.Ctx) error { return c.SendString("<html>ordered") },
		"Bytes":        func(c fiber.Ctx) error { c.Type("png"); return c.Send([]byte{0x89, 'P', 0, 0xff}) },
		"Echo":         func(c fiber.Ctx) error { return c.Send(c.Body()) },
		"SizedStream":  func(c fiber.Ctx) error { return c.SendStream(strings.NewReader("stream"), 6) },
		"File":         func(c fiber.Ctx) error { return c.SendFile(file) },
		"NoContent":    func(c fiber.Ctx) error { return c.SendStatus(204) },
		"OnlyAType":    func(c fiber.Ctx) error { c.Type("json"); return nil },
		"SeveralLinks": func(c fiber.Ctx) error { c.Append("Link", "</a>", "</b>"); return c.SendString("ok") },
		"Redirect":     func(c fiber.Ctx) error { return c.Redirect().Status(303).To("/elsewhere") },
		"Nothing":      func(fiber.Ctx) error { return nil },
		"Bound": func(c fiber.Ctx) error {
			var o order
			if err := c.Bind().Body(&o); err != nil {
				return err
			}
			return c.JSON(o)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, nil, answerWith)
			kind := func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }
			first := adaptertest.Post(t, s.url, "k", `{"Item":"lamp"}`, kind)
			if first.StatusCode >= 400 {
				t.Errorf("got %d %q", first.StatusCode, first.Body)
			}
			again := adaptertest.Post(t, s.url, "k", `{"Item":"lamp"}`, kind)
			adaptertest.WantReplay(t, again, first)
			s.ran(1)
			for _, field := range []string{"Location", "Link", "Last-Modified", "Content-Length"} {
				if a, b := fmt.Sprint(first.Header[field]), fmt.Sprint(again.Header[field]); a != b {
					t.Errorf("%s is %s, and then %s", field, a, b)
				}
			}
			if name == "Bound" && first.Body != `{"Item":"lamp"}` {
				t.Errorf("the handler did not get the body: %s", first.Body)
			}
		})
	}
}

func TestAnswersWithoutADefaultType(t *testing.T) {
	t.Parallel()
	s := openApp(t, fiber.New(fiber.Config{DisableDefaultContentType: true}), nil, func(c fiber.Ctx) error { return c.SendString("<html>") })
	first := adaptertest.Post(t, s.url, "k", "")
	again := adaptertest.Post(t, s.url, "k", "")
	adaptertest.WantReplay(t, again, first)
	if a, b := first.Header["Content-Type"], again.Header["Content-Type"]; a != nil || b != nil {
		t.Errorf("Content-Type is %q, and then %q", a, b)
	}
}

func TestTheFirstAnswerIsTheHandlers(t *testing.T) {
	t.Parallel()
	var after int
	s := open(t, nil, func(c fiber.Ctx) error {
		c.Set("X-Trace", "1")
		c.Set("Etag", `"v1"`)
		c.Cookie(&fiber.Cookie{Name: "a", Value: "secret"})
		c.Cookie(&fiber.Cookie{Name: "b", Value: "secret"})
		return c.Status(201).JSON(fiber.Map{"ok": true})
	}, func(c fiber.Ctx) error {
		c.Set("X-Front", "front")
		c.Set("Access-Control-Expose-Headers", "X-Trace")
		err := c.Next()
		after = c.Response().StatusCode() // the middleware in front sees the answer
		return err
	})
	first := adaptertest.Post(t, s.url, "k", "")
	again := adaptertest.Post(t, s.url, "k", "")
	adaptertest.WantReplay(t, again, first)
	for name, want := range map[string][2]string{
		"X-Trace": {"1", ""}, "Etag": {`"v1"`, `"v1"`}, "X-Front": {"front", "front"}, "Idempotency-Key": {"k", "k"},
		"Content-Type": {"application/json; charset=utf-8", "application/json; charset=utf-8"},
	} {
		if got := [2]string{first.Header.Get(name), again.Header.Get(name)}; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if len(first.Header["Set-Cookie"]) != 2 || len(again.Header["Set-Cookie"]) != 0 || after != 201 {
		t.Errorf("cookies %q, and then %q; status %d in front", first.Header["Set-Cookie"], again.Header["Set-Cookie"], after)
	}
	for _, a := range []adaptertest.Answer{first, again} {
		exposed := strings.Join(a.Header["Access-Control-Expose-Headers"], ",")
		if !strings.Contains(exposed, "X-Trace") || !strings.Contains(exposed, "Idempotency-Key") {
			t.Errorf("exposed: %s", exposed)
		}
	}
}

func TestTheStageIsInTheContext(t *testing.T) {
	t.Parallel()
	type name struct{}
	s := open(t, nil, func(c fiber.Ctx) error {
		if st := httpidem.Stage(c.Context()); st == nil || st.Attempt() != 1 || st.OutboundKey("x") == "" {
			t.Error("there is no stage")
		}
		if _, ok := c.Context().Deadline(); !ok || c.Context().Value(name{}) != "front" {
			t.Error("the context does not descend from the one in front")
		}
		return nil
	}, func(c fiber.Ctx) error {
		ctx, cancel := context.WithTimeout(context.WithValue(c.Context(), name{}, "front"), time.Minute)
		defer cancel()
		c.SetContext(ctx)
		err := c.Next()
		if c.Context() != ctx {
			t.Error("the middleware in front has another context")
		}
		return err
	})
	adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 200)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(c fiber.Ctx) error {
		return c.SendString(string(c.Body()) + " of " + c.Get(adaptertest.CallerHeader))
	})
	as := func(name string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(adaptertest.CallerHeader, name) }
	}
	first := adaptertest.Post(t, s.url, "k", "a")
	adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", "b"), 422)
	adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", "a", func(r *http.Request) { r.Header.Del("Idempotency-Key") }), 400)
	adaptertest.WantStatus(t, adaptertest.Post(t, s.url, `"`, "a"), 400)
	adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", "a", as("")), 500)
	bob := adaptertest.Post(t, s.url, "k", "a", as("bob"))
	if bob.Body != "a of bob" || bob.Replayed() {
		t.Errorf("bob got %q", bob.Body)
	}
	adaptertest.WantReplay(t, adaptertest.Post(t, s.url, "k", "a"), first)
	s.ran(2)
}

func TestInFlight(t *testing.T) {
	t.Parallel()
	running, release := make(chan struct{}), make(chan struct{})
	s := open(t, nil, func(c fiber.Ctx) error {
		close(running)
		<-release
		return c.SendString("done")
	})
	done := make(chan adaptertest.Answer)
	go func() {
		a, err := adaptertest.Try(t.Context(), s.url, "k", "")
		if err != nil {
			t.Error(err)
		}
		done <- a
	}()
	<-running
	refused := adaptertest.Post(t, s.url, "k", "")
	adaptertest.WantStatus(t, refused, 409)
	if refused.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	close(release)
	first := <-done
	adaptertest.WantReplay(t, adaptertest.Post(t, s.url, "k", ""), first)
	s.ran(1)
}

func TestPanics(t *testing.T) {
	t.Parallel()
	broken := func(c fiber.Ctx) error {
		_ = c.SendString("half an answer")
		panic("broken")
	}
	t.Run("RecoveredInFront", func(t *testing.T) {
		t.Parallel()
		s := open(t, nil, broken, recover.New())
		for range 2 {
			if a := adaptertest.Post(t, s.url, "k", ""); a.StatusCode != http.StatusInternalServerError || strings.Contains(a.Body, "half") || a.Replayed() {
				t.Errorf("got %d %q", a.StatusCode, a.Body)
			}
		}
		s.ran(2)
		if n := s.Count(httpidem.ResultPanicked); n != 2 {
			t.Errorf("%d panics were counted", n)
		}
	})
	t.Run("NothingRunsTwice", func(t *testing.T) {
		t.Parallel()
		s := open(t, &httpidem.Config{Response: httpidem.ResponseConfig{Status: httpidem.KeepAll}}, broken, recover.New())
		adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 500)
		adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 410)
		s.ran(1)
	})
	t.Run("RecoveredBehind", func(t *testing.T) {
		t.Parallel()
		s := &shop{Store: adaptertest.NewStore(t)}
		app := fiber.New()
		app.Use(fiberidem.New(s.Middleware(nil)), recover.New())
		app.Post("/", func(fiber.Ctx) error { s.runs.Add(1); panic("broken") })
		url := serve(t, app)
		adaptertest.WantStatus(t, adaptertest.Post(t, url, "k", ""), 500)
		adaptertest.WantStatus(t, adaptertest.Post(t, url, "k", ""), 500)
		s.ran(2)
	})
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err    error
		status int
		kept   bool
	}{
		"NotFound":    {fiber.NewError(404, "no such shelf"), 404, true},
		"Unavailable": {fiber.NewError(503, "later"), 503, false},
		"Plain":       {errors.New("secret"), 500, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, nil, func(fiber.Ctx) error { return c.err })
			first := adaptertest.Post(t, s.url, "k", "")
			adaptertest.WantStatus(t, first, c.status)
			again := adaptertest.Post(t, s.url, "k", "")
			if !c.kept {
				adaptertest.WantStatus(t, again, c.status)
				s.ran(2)
				return
			}
			adaptertest.WantReplay(t, again, first)
			s.ran(1)
		})
	}
	t.Run("OfTheHandlerOfErrors", func(t *testing.T) {
		t.Parallel()
		app := fiber.New(fiber.Config{ErrorHandler: func(fiber.Ctx, error) error { return errors.New("this, too") }})
		s := openApp(t, app, nil, func(fiber.Ctx) error { return errors.New("no") })
		adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 500)
		adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 500)
		s.ran(2)
	})
	t.Run("OfARequestThatIsNotProtected", func(t *testing.T) {
		t.Parallel()
		s := open(t, &httpidem.Config{Key: httpidem.KeyConfig{Optional: true}}, func(fiber.Ctx) error { return fiber.NewError(404, "no such shelf") })
		adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "", "", func(r *http.Request) { r.Header.Del("Idempotency-Key") }), 404)
	})
}

func TestStoreDown(t *testing.T) {
	t.Parallel()
	t.Run("Closed", func(t *testing.T) {
		t.Parallel()
		s := open(t, nil, func(c fiber.Ctx) error { return c.SendString("done") })
		s.Sever()
		adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 503)
		s.ran(0)
		s.Heal()
		adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 200)
	})
	t.Run("Open", func(t *testing.T) {
		t.Parallel()
		s := open(t, &httpidem.Config{FailOpen: true}, func(c fiber.Ctx) error {
			c.Set("Idempotency-Replayed", "true")
			switch string(c.Body()) {
			case "status":
				return c.SendStatus(204)
			case "error":
				return fiber.NewError(418, "no coffee")
			case "nothing":
				return nil
			case "stream":
				return c.SendStream(strings.NewReader("stream"))
			}
			return c.Status(201).Send(c.Body())
		})
		s.Sever()
		for body, want := range map[string]struct {
			status int
			body   string
		}{"lamp": {201, "lamp"}, "status": {204, ""}, "nothing": {200, ""}, "error": {418, "no coffee"}, "stream": {200, "stream"}} {
			t.Run(body, func(t *testing.T) {
				t.Parallel() // each waits for the store
				a := adaptertest.Post(t, s.url, "k", body)
				if a.StatusCode != want.status || a.Body != want.body || a.Header.Get("Idempotency-Key") != "k" || a.Replayed() {
					t.Errorf("%s: got %d %q %v", body, a.StatusCode, a.Body, a.Header)
				}
			})
		}
	})
	for name, send := range map[string]func(c fiber.Ctx) error{
		"AfterTheWork":             func(c fiber.Ctx) error { return c.SendString("done") },
		"AfterTheWorkWithACookie":  func(c fiber.Ctx) error { c.Cookie(&fiber.Cookie{Name: "a"}); return c.SendString("done") },
		"AfterTheWorkWithAStream":  func(c fiber.Ctx) error { return c.SendStream(strings.NewReader("done"), 4) },
		"AfterTheWorkWithA503":     func(c fiber.Ctx) error { return c.Status(202).SendString("done") },
		"AfterTheWorkWithEncoding": func(c fiber.Ctx) error { c.Set("Content-Encoding", "x"); return c.SendString("done") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s *shop
			s = open(t, nil, func(c fiber.Ctx) error {
				c.Set("X-Secret", "1")
				s.Sever()
				return send(c)
			})
			a := adaptertest.Post(t, s.url, "k", "")
			if a.StatusCode != http.StatusServiceUnavailable || strings.Contains(a.Body, "done") || a.Header.Get("X-Secret") != "" ||
				a.Header.Get("Set-Cookie") != "" || a.Header.Get("Content-Encoding") != "" {
				t.Errorf("got %d %q %v", a.StatusCode, a.Body, a.Header)
			}
			s.Heal()
			adaptertest.Eventually(t, "the commit in the background", func() bool {
				a := adaptertest.Post(t, s.url, "k", "")
				return a.Replayed() && a.Body == "done"
			})
			s.ran(1)
		})
	}
}

func TestClientDisconnects(t *testing.T) {
	t.Parallel()
	running, release := make(chan struct{}), make(chan struct{})
	s := open(t, nil, func(c fiber.Ctx) error {
		close(running)
		<-release
		if err := c.Context().Err(); err != nil {
			t.Errorf("the handler's context: %v", err)
		}
		return c.SendString("done")
	})
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := adaptertest.Try(ctx, s.url, "k", "")
		gone <- err
	}()
	<-running
	leave()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the client got %v", err)
	}
	close(release)
	adaptertest.Eventually(t, "a replay", func() bool {
		a := adaptertest.Post(t, s.url, "k", "")
		return a.Replayed() && a.Body == "done"
	})
	s.ran(1)
}

func TestAnswersThatAreNotKept(t *testing.T) {
	t.Parallel()
	ticks := func(c fiber.Ctx) error {
		return c.SendStreamWriter(func(w *bufio.Writer) {
			for range 3 {
				_, _ = w.WriteString("tick ")
				_ = w.Flush()
			}
		})
	}
	long := strings.Repeat("long ", 100)
	for name, c := range map[string]struct {
		cfg     httpidem.Config
		handler fiber.Handler
		body    string
		then    int
	}{
		"Stream":              {httpidem.Config{}, ticks, "tick tick tick ", 410},
		"StreamAndNoFlushing": {httpidem.Config{Response: httpidem.ResponseConfig{KeepFlushed: true}}, ticks, "tick tick tick ", 410},
		"StreamOfAnError":     {httpidem.Config{}, func(c fiber.Ctx) error { return ticks(c.Status(500)) }, "tick tick tick ", 500},
		"Long":                {httpidem.Config{Response: httpidem.ResponseConfig{MaxBytes: 10}}, func(c fiber.Ctx) error { return c.SendString(long) }, long, 410},
		"LongStream": {
			httpidem.Config{Response: httpidem.ResponseConfig{MaxBytes: 10}},
			func(c fiber.Ctx) error { return c.SendStream(strings.NewReader(long), len(long)) }, long, 410,
		},
		"NoBodyAllowed": {httpidem.Config{Response: httpidem.ResponseConfig{KeepFlushed: true}}, func(c fiber.Ctx) error { return ticks(c.Status(204)) }, "", 204},
		"Broken": {httpidem.Config{}, func(c fiber.Ctx) error {
			return c.SendStream(iotest.ErrReader(fiber.NewError(502, "broken")), 6)
		}, "broken", 502},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, &c.cfg, c.handler)
			if a := adaptertest.Post(t, s.url, "k", ""); a.Body != c.body || a.Header.Get("Idempotency-Key") != "k" {
				t.Errorf("got %d %q", a.StatusCode, a.Body)
			}
			adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), c.then)
		})
	}
}

func TestHijackedConnections(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(c fiber.Ctx) error {
		c.RequestCtx().HijackSetNoResponse(true)
		c.RequestCtx().Hijack(func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 299 Mine\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		})
		return nil
	})
	adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 299)
	adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 410)
	s.ran(1)
}

// TestFormsAreTheSameEachTime is about forms that Fiber takes apart before any handler runs.
func TestFormsAreTheSameEachTime(t *testing.T) {
	t.Parallel()
	form := func(value string) (string, func(*http.Request)) {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		_ = w.SetBoundary("same")
		for i := range 20 {
			_ = w.WriteField(fmt.Sprint("field", i), value)
			part, _ := w.CreateFormFile(fmt.Sprint("file", i), "name")
			_, _ = io.WriteString(part, "contents")
		}
		_ = w.Close()
		return b.String(), func(r *http.Request) { r.Header.Set("Content-Type", w.FormDataContentType()) }
	}
	for name, cfg := range map[string]fiber.Config{
		"Default": {}, "NotTakenApart": {DisablePreParseMultipartForm: true}, "Streamed": {StreamRequestBody: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openApp(t, fiber.New(cfg), nil, func(c fiber.Ctx) error {
				file, err := c.FormFile("file7")
				if err != nil {
					return err
				}
				return c.SendString(c.FormValue("field7") + file.Filename)
			})
			body, kind := form("x")
			first := adaptertest.Post(t, s.url, "k", body, kind)
			if first.Body != "xname" {
				t.Errorf("got %d %q", first.StatusCode, first.Body)
			}
			for range 5 {
				adaptertest.WantReplay(t, adaptertest.Post(t, s.url, "k", body, kind), first)
			}
			s.ran(1)
			body, kind = form("y")
			adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", body, kind), 422)
		})
	}
	t.Run("NoForm", func(t *testing.T) {
		t.Parallel()
		s := openApp(t, fiber.New(fiber.Config{DisablePreParseMultipartForm: true}), nil, func(c fiber.Ctx) error { return c.Send(c.Body()) })
		_, kind := form("x")
		if a := adaptertest.Post(t, s.url, "k", "no form", kind); a.Body != "no form" {
			t.Errorf("got %d %q", a.StatusCode, a.Body)
		}
	})
}

func TestStreamedRequests(t *testing.T) {
	t.Parallel()
	app := fiber.New(fiber.Config{StreamRequestBody: true})
	s := openApp(t, app, &httpidem.Config{MaxBodyBytes: 200_000}, func(c fiber.Ctx) error { return c.SendString(fmt.Sprint(len(c.Body()))) })
	chunked := func(r *http.Request) { r.ContentLength = -1 }
	body := strings.Repeat("x", 100_000)
	first := adaptertest.Post(t, s.url, "k", body, chunked)
	if first.Body != "100000" {
		t.Errorf("the handler got %s bytes", first.Body)
	}
	adaptertest.WantReplay(t, adaptertest.Post(t, s.url, "k", body, chunked), first)
	adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", body+"x", chunked), 422)
	s.ran(1)
	// What is not read leaves its connection unusable.
	last := func(r *http.Request) { r.Close = true }
	if a, err := adaptertest.Try(t.Context(), s.url, "k2", body+body+body, last); err == nil && a.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d", a.StatusCode)
	}
	bare := adaptertest.Post(t, s.url, "", body, func(r *http.Request) { r.Method = http.MethodPut })
	adaptertest.WantStatus(t, bare, 405)
}

func TestScope(t *testing.T) {
	t.Parallel()
	s := adaptertest.NewStore(t)
	m, err := httpidem.New(s.Service, fiberidem.Scope(func(c fiber.Ctx) (string, error) {
		if c.Get(adaptertest.CallerHeader) == "" {
			return "", errors.New("nobody")
		}
		return c.Get(adaptertest.CallerHeader), nil
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	app := fiber.New()
	app.Use(fiberidem.New(m))
	app.Post("/", func(c fiber.Ctx) error { return c.SendString(c.Get(adaptertest.CallerHeader)) })
	url := serve(t, app)
	for _, name := range []string{"alice", "bob"} {
		if a := adaptertest.Post(t, url, "k", "", func(r *http.Request) { r.Header.Set(adaptertest.CallerHeader, name) }); a.Body != name {
			t.Errorf("%s got %q", name, a.Body)
		}
	}
	adaptertest.WantStatus(t, adaptertest.Post(t, url, "k", "", func(r *http.Request) { r.Header.Del(adaptertest.CallerHeader) }), 403)
	// Outside of an app there is no context to be asked.
	plain := fiber.New()
	plain.Use(adaptor.HTTPHandler(m.Handler(http.NotFoundHandler())))
	adaptertest.WantStatus(t, adaptertest.Post(t, serve(t, plain), "k", ""), 403)
}

// TestRecordsAreThoseOfNetHTTP is about services that change from one server to the other.
func TestRecordsAreThoseOfNetHTTP(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(c fiber.Ctx) error { return c.Status(201).SendString("<html>from Fiber") })
	other := httptest.NewServer(s.m.Handler(http.NotFoundHandler()))
	t.Cleanup(other.Close)
	const query = "?a=%20b&a=c+d"
	first := adaptertest.Post(t, s.url+query, "k", "body")
	adaptertest.WantReplay(t, adaptertest.Post(t, other.URL+"/orders/7"+query, "k", "body"), first)
	second := adaptertest.Post(t, other.URL+"/orders/%2F8", "k2", "body")
	adaptertest.WantStatus(t, second, 404)
	adaptertest.WantReplay(t, adaptertest.Post(t, strings.TrimSuffix(s.url, "7")+"%2F8", "k2", "body"), second)
	s.ran(1)
}

// TestTargetsThatAreNoURIs is about targets that Fiber takes and net/http does not.
func TestTargetsThatAreNoURIs(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(c fiber.Ctx) error { return c.SendString(c.OriginalURL()) })
	odd := func(target string) func(*http.Request) {
		return func(r *http.Request) { r.URL.Opaque = target }
	}
	first := adaptertest.Post(t, s.url, "k", "", odd("/orders/%zz"))
	if first.Body != "/orders/%zz" {
		t.Errorf("got %d %q", first.StatusCode, first.Body)
	}
	adaptertest.WantReplay(t, adaptertest.Post(t, s.url, "k", "", odd("/orders/%zz")), first)
	adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", "", odd("/orders/%yy")), 422)
}

func TestNewRefusesNil(t *testing.T) {
	t.Parallel()
	app := fiber.New()
	app.Use(recover.New())
	app.Post("/", func(fiber.Ctx) error { fiberidem.New(nil); return nil })
	adaptertest.WantStatus(t, adaptertest.Post(t, serve(t, app), "k", ""), 500)
}

func TestCompressionInFrontDoesWhatEachRetryAccepts(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("ordered ", 500)
	s := open(t, nil, func(c fiber.Ctx) error { return c.SendString(text) }, compress.New())
	adaptertest.WantCompressed(t, s.url, text)
	s.ran(2)
}
