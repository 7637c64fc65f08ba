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
	"testing"
	"testing/iotest"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/contrib/fiberidem"
	"github.com/redisidem/redisidem/internal/adaptertest"
	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestMain(m *testing.M) {
	redis.SetLogger(adaptertest.Quiet{})
	leak.Lasting("github.com/valyala/fasthttp.updateServerDate", "github.com/valyala/fasthttp.(*inMemoryCacheManager).handleCleanCache",
		"github.com/valyala/fasthttp/stackless.funcWorker")
	leak.Main(m)
}

// open serves one handler at /orders/:shelf, with the given middleware in front of the adapter.
func open(t *testing.T, cfg *httpidem.Config, handler fiber.Handler, front ...any) *adaptertest.Shop {
	t.Helper()
	return openApp(t, fiber.New(), cfg, handler, front...)
}

func openApp(t *testing.T, app *fiber.App, cfg *httpidem.Config, handler fiber.Handler, front ...any) *adaptertest.Shop {
	t.Helper()
	s := adaptertest.NewShop(t, cfg)
	if len(front) > 0 {
		app.Use(front...)
	}
	app.Use(fiberidem.New(s.Adapter))
	app.Post("/orders/:shelf", func(c fiber.Ctx) error {
		s.Runs.Add(1)
		return handler(c)
	})
	s.URL = serve(t, app) + "/orders/7"
	return s
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
			first, again := open(t, nil, answerWith).WantReplay(`{"Item":"lamp"}`)
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
	first := s.Post("k", "")
	again := s.Post("k", "")
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
	first := s.Post("k", "")
	again := s.Post("k", "")
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
	adaptertest.WantStatus(t, s.Post("k", ""), 200)
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
			first := s.Post("k", "")
			adaptertest.WantStatus(t, first, c.status)
			again := s.Post("k", "")
			if !c.kept {
				adaptertest.WantStatus(t, again, c.status)
				s.WantRuns(2)
				return
			}
			adaptertest.WantReplay(t, again, first)
			s.WantRuns(1)
		})
	}
	t.Run("ErrorHandlerThatFails", func(t *testing.T) {
		t.Parallel()
		app := fiber.New(fiber.Config{ErrorHandler: func(fiber.Ctx, error) error { return errors.New("this, too") }})
		s := openApp(t, app, nil, func(fiber.Ctx) error { return errors.New("no") })
		s.WantEach(500)
	})
	t.Run("RequestThatIsNotProtected", func(t *testing.T) {
		t.Parallel()
		s := open(t, &httpidem.Config{Key: httpidem.KeyConfig{Optional: true}}, func(fiber.Ctx) error { return fiber.NewError(404, "no such shelf") })
		adaptertest.WantStatus(t, s.Post("", "", adaptertest.WithoutKey), 404)
	})
}

func TestErrorsAndStreamsAreSentWithoutTheStore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handler fiber.Handler
		status  int
		body    string
	}{
		"Error":  {func(fiber.Ctx) error { return fiber.NewError(418, "no coffee") }, 418, "no coffee"},
		"Stream": {func(c fiber.Ctx) error { return c.SendStream(strings.NewReader("stream")) }, 200, "stream"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, &httpidem.Config{FailOpen: true}, func(ctx fiber.Ctx) error {
				ctx.Set("Idempotency-Replayed", "true")
				return c.handler(ctx)
			})
			s.Sever()
			if a := s.Post("k", ""); a.StatusCode != c.status || a.Body != c.body || a.Header.Get("Idempotency-Key") != "k" || a.Replayed() {
				t.Errorf("got %d %q %v", a.StatusCode, a.Body, a.Header)
			}
		})
	}
}

func TestNothingOfAnUnacknowledgedAnswerIsSent(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]fiber.Handler{
		"Cookie":   func(c fiber.Ctx) error { c.Cookie(&fiber.Cookie{Name: "a"}); return c.SendString("done") },
		"Stream":   func(c fiber.Ctx) error { return c.SendStream(strings.NewReader("done"), 4) },
		"Status":   func(c fiber.Ctx) error { return c.Status(202).SendString("done") },
		"Encoding": func(c fiber.Ctx) error { c.Set("Content-Encoding", "x"); return c.SendString("done") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s *adaptertest.Shop
			s = open(t, nil, func(c fiber.Ctx) error {
				c.Set("X-Secret", "1")
				s.Sever()
				return send(c)
			})
			s.WantUnacknowledged()
		})
	}
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
			if a := s.Post("k", ""); a.Body != c.body || a.Header.Get("Idempotency-Key") != "k" {
				t.Errorf("got %d %q", a.StatusCode, a.Body)
			}
			adaptertest.WantStatus(t, s.Post("k", ""), c.then)
		})
	}
}

func TestHijackedConnections(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(c fiber.Ctx) error {
		c.RequestCtx().HijackSetNoResponse(true)
		c.RequestCtx().Hijack(func(conn net.Conn) {
			if err := adaptertest.Hijacked(conn); err != nil {
				t.Error(err)
			}
		})
		return nil
	})
	s.WantHijacked()
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
			first := s.Post("k", body, kind)
			if first.Body != "xname" {
				t.Errorf("got %d %q", first.StatusCode, first.Body)
			}
			for range 5 {
				adaptertest.WantReplay(t, s.Post("k", body, kind), first)
			}
			s.WantRuns(1)
			body, kind = form("y")
			adaptertest.WantStatus(t, s.Post("k", body, kind), 422)
		})
	}
	t.Run("NoForm", func(t *testing.T) {
		t.Parallel()
		s := openApp(t, fiber.New(fiber.Config{DisablePreParseMultipartForm: true}), nil, func(c fiber.Ctx) error { return c.Send(c.Body()) })
		_, kind := form("x")
		if a := s.Post("k", "no form", kind); a.Body != "no form" {
			t.Errorf("got %d %q", a.StatusCode, a.Body)
		}
	})
}

func TestStreamedRequests(t *testing.T) {
	t.Parallel()
	app := fiber.New(fiber.Config{StreamRequestBody: true})
	s := openApp(t, app, &httpidem.Config{MaxBodyBytes: 200_000}, func(c fiber.Ctx) error { return c.SendString(fmt.Sprint(len(c.Body()))) })
	body := strings.Repeat("x", 100_000)
	first := s.Post("k", body, chunked)
	if first.Body != "100000" {
		t.Errorf("the handler got %s bytes", first.Body)
	}
	adaptertest.WantReplay(t, s.Post("k", body, chunked), first)
	adaptertest.WantStatus(t, s.Post("k", body+"x", chunked), 422)
	s.WantRuns(1)
	// What is not read leaves its connection unusable.
	last := func(r *http.Request) { r.Close = true }
	if a, err := adaptertest.Try(t.Context(), s.URL, "k2", body+body+body, last); err == nil && a.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d", a.StatusCode)
	}
	bare := s.Post("", "short", func(r *http.Request) { r.Method = http.MethodPut })
	adaptertest.WantStatus(t, bare, 405)
}

func TestScope(t *testing.T) {
	t.Parallel()
	s := adaptertest.NewStore(t)
	m, err := httpidem.New(s.Service, fiberidem.Scope(func(c fiber.Ctx) (string, error) {
		if c.Get(adaptertest.CallerHeader) == "" {
			return "", errors.New("no caller")
		}
		return c.Get(adaptertest.CallerHeader), nil
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	app := fiber.New()
	app.Use(fiberidem.New(m))
	app.Post("/", func(c fiber.Ctx) error { return c.SendString(c.Get(adaptertest.CallerHeader)) })
	// Outside of an app the scope function has no context.
	outside := fiber.New()
	outside.Use(adaptor.HTTPHandler(m.Handler(http.NotFoundHandler())))
	adaptertest.WantScopes(t, serve(t, app), serve(t, outside))
}

// TestRecordsAreThoseOfNetHTTP is about services that change from one server to the other.
func TestRecordsAreThoseOfNetHTTP(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(c fiber.Ctx) error { return c.Status(201).SendString("<html>from Fiber") })
	other := httptest.NewServer(s.Adapter.Handler(http.NotFoundHandler()))
	t.Cleanup(other.Close)
	const query = "?a=%20b&a=c+d"
	first := adaptertest.Post(t, s.URL+query, "k", "body")
	adaptertest.WantReplay(t, adaptertest.Post(t, other.URL+"/orders/7"+query, "k", "body"), first)
	second := adaptertest.Post(t, other.URL+"/orders/%2F8", "k2", "body")
	adaptertest.WantStatus(t, second, 404)
	adaptertest.WantReplay(t, adaptertest.Post(t, strings.TrimSuffix(s.URL, "7")+"%2F8", "k2", "body"), second)
	s.WantRuns(1)
}

// TestTargetsThatAreNotURIs is about targets that Fiber takes and net/http does not.
func TestTargetsThatAreNotURIs(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(c fiber.Ctx) error { return c.SendString(c.OriginalURL()) })
	odd := func(target string) func(*http.Request) {
		return func(r *http.Request) { r.URL.Opaque = target }
	}
	first := s.Post("k", "", odd("/orders/%zz"))
	if first.Body != "/orders/%zz" {
		t.Errorf("got %d %q", first.StatusCode, first.Body)
	}
	adaptertest.WantReplay(t, s.Post("k", "", odd("/orders/%zz")), first)
	adaptertest.WantStatus(t, s.Post("k", "", odd("/orders/%yy")), 422)
}

func TestNewRefusesNil(t *testing.T) {
	t.Parallel()
	adaptertest.WantPanic(t, func() { fiberidem.New(nil) })
}
