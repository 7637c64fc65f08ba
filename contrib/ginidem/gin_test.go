package ginidem_test

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/contrib/ginidem"
	"github.com/redisidem/redisidem/internal/adaptertest"
	"github.com/redisidem/redisidem/internal/httpclause"
	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestMain(m *testing.M) {
	redis.SetLogger(adaptertest.Quiet{})
	gin.SetMode(gin.TestMode)
	leak.Main(m)
}

// TestDraft runs the clauses of the draft against a gin engine.
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
		r := gin.New()
		r.Use(ginidem.New(s.Middleware(cfg)))
		serving := func(c *gin.Context) { backend.ServeHTTP(c.Writer, c.Request) }
		r.Any("/*path", serving)
		return &httpclause.Target{
			URL:        adaptertest.Serve(t, r).URL,
			As:         func(r *http.Request, name string) { r.Header.Set(adaptertest.CallerHeader, name) },
			StoreCalls: func() int { return int(s.Calls.Load()) },
		}
	})
}

// shop is an engine whose handlers' runs are counted.
type shop struct {
	*adaptertest.Store
	m    *httpidem.Middleware
	url  string
	runs atomic.Int64
}

// open serves one handler at /orders/:shelf. The chain in front of the middleware can be given.
func open(t *testing.T, cfg *httpidem.Config, handler gin.HandlerFunc, front ...gin.HandlerFunc) *shop {
	t.Helper()
	s := &shop{Store: adaptertest.NewStore(t)}
	s.m = s.Middleware(cfg)
	r := gin.New()
	r.Use(front...)
	r.Use(ginidem.New(s.m))
	r.POST("/orders/:shelf", func(c *gin.Context) {
		s.runs.Add(1)
		handler(c)
	})
	s.url = adaptertest.Serve(t, r).URL + "/orders/7"
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
	type order struct{ Item string }
	for name, answerWith := range map[string]gin.HandlerFunc{
		"JSON":   func(c *gin.Context) { c.JSON(201, gin.H{"shelf": c.Param("shelf"), "full": c.FullPath()}) },
		"String": func(c *gin.Context) { c.String(200, "ordered") },
		"Data":   func(c *gin.Context) { c.Data(202, "image/png", []byte{0x89, 'P', 0, 0xff}) },
		"Status": func(c *gin.Context) { c.Status(204) },
		"Redirect": func(c *gin.Context) {
			c.Header("Location", "/elsewhere")
			c.AbortWithStatus(303)
		},
		"Nothing": func(*gin.Context) {},
		"Bound": func(c *gin.Context) {
			var o order
			if err := c.BindJSON(&o); err != nil {
				return
			}
			c.JSON(200, o)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, nil, answerWith)
			first := adaptertest.Post(t, s.url, "k", `{"Item":"lamp"}`)
			again := adaptertest.Post(t, s.url, "k", `{"Item":"lamp"}`)
			adaptertest.WantReplay(t, again, first)
			s.ran(1)
			if name == "Bound" && first.Body != `{"Item":"lamp"}` {
				t.Errorf("the handler did not get the body: %s", first.Body)
			}
		})
	}
}

func TestTheFirstAnswerIsTheHandlers(t *testing.T) {
	t.Parallel()
	var after int
	s := open(t, nil, func(c *gin.Context) {
		c.Header("X-Trace", "1")
		c.Header("Etag", `"v1"`)
		c.SetCookie("session", "secret", 60, "/", "", true, true)
		c.JSON(201, gin.H{"ok": true})
	}, func(c *gin.Context) {
		c.Header("X-Front", "front")
		c.Next()
		after = c.Writer.Status() // the chain in front sees the answer
	})
	first := adaptertest.Post(t, s.url, "k", "")
	again := adaptertest.Post(t, s.url, "k", "")
	adaptertest.WantReplay(t, again, first)
	for name, want := range map[string][2]string{
		"X-Trace": {"1", ""}, "Etag": {`"v1"`, `"v1"`}, "Set-Cookie": {first.Header.Get("Set-Cookie"), ""}, "X-Front": {"front", "front"},
		"Idempotency-Key": {"k", "k"}, "Content-Type": {"application/json; charset=utf-8", "application/json; charset=utf-8"},
	} {
		if got := [2]string{first.Header.Get(name), again.Header.Get(name)}; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if first.Header.Get("Set-Cookie") == "" || after != 201 {
		t.Errorf("the first answer was changed: %v, status %d for the chain in front", first.Header, after)
	}
}

func TestWhatStandsBehindSeesTheWritersState(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(c *gin.Context) {
		w := c.Writer
		if w.Written() || w.Size() != -1 || w.Status() != 200 {
			t.Errorf("a fresh writer has %t %d %d", w.Written(), w.Size(), w.Status())
		}
		c.Status(202)
		c.Status(203)
		_, _ = w.WriteString("ab")
		w.WriteHeader(http.StatusAccepted) // too late
		if !w.Written() || w.Size() != 2 || w.Status() != 203 || w.Pusher() != nil {
			t.Errorf("a used writer has %t %d %d", w.Written(), w.Size(), w.Status())
		}
		if _, _, err := w.Hijack(); err == nil {
			t.Error("an answer with a body can be hijacked")
		}
	})
	first := adaptertest.Post(t, s.url, "k", "")
	adaptertest.WantStatus(t, first, 203)
	adaptertest.WantReplay(t, adaptertest.Post(t, s.url, "k", ""), first)
}

func TestTheStageIsInTheContext(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(c *gin.Context) {
		if st := httpidem.Stage(c.Request.Context()); st == nil || st.Attempt() != 1 || st.OutboundKey("x") == "" {
			t.Error("there is no stage")
		}
		c.Request = c.Request.WithContext(context.Background()) // must not reach the chain in front
		c.Status(200)
	}, func(c *gin.Context) {
		before := c.Request
		writer := c.Writer
		c.Next()
		if c.Request != before || c.Writer != writer {
			t.Error("the chain in front has another request or writer")
		}
	})
	adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 200)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(c *gin.Context) {
		body, _ := io.ReadAll(c.Request.Body)
		c.String(200, "%s of %s", body, c.GetHeader(adaptertest.CallerHeader))
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
	s := open(t, nil, func(c *gin.Context) {
		close(running)
		<-release
		c.String(200, "done")
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
	broken := func(c *gin.Context) {
		c.Header("X-Half", "1")
		_, _ = c.Writer.WriteString("half an answer")
		panic("broken")
	}
	recovery := func() gin.HandlerFunc { return gin.RecoveryWithWriter(io.Discard) }
	t.Run("RecoveredInFront", func(t *testing.T) {
		t.Parallel()
		s := open(t, nil, broken, recovery())
		for range 2 {
			if a := adaptertest.Post(t, s.url, "k", ""); a.StatusCode != http.StatusInternalServerError || a.Body != "" || a.Replayed() {
				t.Errorf("got %d %q", a.StatusCode, a.Body)
			}
		}
		s.ran(2)
	})
	t.Run("NotRecovered", func(t *testing.T) {
		t.Parallel()
		s := open(t, nil, broken)
		if a, err := adaptertest.Try(t.Context(), s.url, "k", ""); err == nil {
			t.Errorf("got %d", a.StatusCode)
		}
		if n := s.Count(httpidem.ResultPanicked); n == 0 {
			t.Error("not counted")
		}
	})
	t.Run("NothingRunsTwice", func(t *testing.T) {
		t.Parallel()
		s := open(t, &httpidem.Config{Response: httpidem.ResponseConfig{Status: httpidem.KeepAll}}, broken, recovery())
		adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 500)
		adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 410)
		s.ran(1)
	})
	t.Run("RecoveredBehind", func(t *testing.T) {
		t.Parallel()
		s := &shop{Store: adaptertest.NewStore(t)}
		r := gin.New()
		r.Use(ginidem.New(s.Middleware(nil)), recovery())
		r.POST("/", func(*gin.Context) { s.runs.Add(1); panic("broken") })
		url := adaptertest.Serve(t, r).URL
		adaptertest.WantStatus(t, adaptertest.Post(t, url, "k", ""), 500)
		adaptertest.WantStatus(t, adaptertest.Post(t, url, "k", ""), 500)
		s.ran(2)
	})
}

// answeringErrors is an API's own way to answer for errors.
func answeringErrors(c *gin.Context) {
	c.Next()
	if len(c.Errors) > 0 && c.Writer.Size() <= 0 {
		status := c.Writer.Status()
		if status < 400 {
			status = 422
		}
		c.JSON(status, gin.H{"error": c.Errors.Last().Error()})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	failing := map[string]gin.HandlerFunc{
		"Error":            func(c *gin.Context) { _ = c.Error(errors.New("no such item")) },
		"StatusAndError":   func(c *gin.Context) { c.Status(404); _ = c.Error(errors.New("no such item")) },
		"AbortWithError":   func(c *gin.Context) { _ = c.AbortWithError(400, errors.New("no such item")) },
		"AbortWithoutBody": func(c *gin.Context) { c.Abort(); _ = c.Error(errors.New("no such item")) },
	}
	for name, handler := range failing {
		t.Run(name+"AnsweredInFront", func(t *testing.T) {
			t.Parallel()
			s := open(t, nil, handler, answeringErrors)
			var bodies []string
			for range 2 {
				a := adaptertest.Post(t, s.url, "k", "")
				if a.StatusCode < 400 || !strings.Contains(a.Body, "no such item") || a.Replayed() || a.Header.Get("Idempotency-Key") != "k" {
					t.Errorf("got %d %q %v", a.StatusCode, a.Body, a.Header)
				}
				bodies = append(bodies, a.Body)
			}
			s.ran(2)
			if bodies[0] != bodies[1] {
				t.Errorf("the answers differ: %q", bodies)
			}
		})
		t.Run(name+"AnsweredInFrontAndNothingRunsTwice", func(t *testing.T) {
			t.Parallel()
			s := open(t, &httpidem.Config{Response: httpidem.ResponseConfig{Status: httpidem.KeepAll}}, handler, answeringErrors)
			if a := adaptertest.Post(t, s.url, "k", ""); a.StatusCode < 400 || !strings.Contains(a.Body, "no such item") {
				t.Errorf("got %d %q", a.StatusCode, a.Body)
			}
			adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 410)
			s.ran(1)
		})
		t.Run(name+"AnsweredBehind", func(t *testing.T) {
			t.Parallel()
			s := &shop{Store: adaptertest.NewStore(t)}
			r := gin.New()
			r.Use(ginidem.New(s.Middleware(nil)), answeringErrors)
			r.POST("/", func(c *gin.Context) { s.runs.Add(1); handler(c) })
			url := adaptertest.Serve(t, r).URL
			first := adaptertest.Post(t, url, "k", "")
			if !strings.Contains(first.Body, "no such item") {
				t.Errorf("got %q", first.Body)
			}
			adaptertest.WantReplay(t, adaptertest.Post(t, url, "k", ""), first)
			s.ran(1)
		})
	}
	t.Run("BesidesAnAnswer", func(t *testing.T) {
		t.Parallel()
		s := open(t, nil, func(c *gin.Context) {
			_ = c.Error(errors.New("the mail was not sent"))
			c.Status(204)
		})
		first := adaptertest.Post(t, s.url, "k", "")
		adaptertest.WantStatus(t, first, 204)
		adaptertest.WantReplay(t, adaptertest.Post(t, s.url, "k", ""), first)
		s.ran(1)
	})
	t.Run("AnsweredByNobody", func(t *testing.T) {
		t.Parallel()
		s := open(t, nil, failing["AbortWithError"])
		adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 400)
		adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 400)
		s.ran(2)
	})
}

func TestStoreDown(t *testing.T) {
	t.Parallel()
	t.Run("Closed", func(t *testing.T) {
		t.Parallel()
		s := open(t, nil, func(c *gin.Context) { c.String(200, "done") })
		s.Sever()
		adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 503)
		s.ran(0)
		s.Heal()
		adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 200)
	})
	t.Run("Open", func(t *testing.T) {
		t.Parallel()
		s := open(t, &httpidem.Config{FailOpen: true}, func(c *gin.Context) {
			body, _ := io.ReadAll(c.Request.Body)
			c.Header("Idempotency-Replayed", "true")
			switch string(body) {
			case "status":
				c.Status(204)
			case "error":
				_ = c.Error(errors.New("to be answered in front"))
			case "nothing":
			default:
				c.String(201, "%s", body)
			}
		}, func(c *gin.Context) {
			c.Next()
			if len(c.Errors) > 0 && !c.Writer.Written() {
				c.String(500, "answered in front")
			}
		})
		s.Sever()
		for body, want := range map[string]struct {
			status int
			body   string
		}{"lamp": {201, "lamp"}, "status": {204, ""}, "nothing": {200, ""}, "error": {500, "answered in front"}} {
			t.Run(body, func(t *testing.T) {
				t.Parallel() // each waits for the store
				a := adaptertest.Post(t, s.url, "k", body)
				if a.StatusCode != want.status || a.Body != want.body || a.Header.Get("Idempotency-Key") != "k" || body != "error" && a.Replayed() {
					t.Errorf("%s: got %d %q %v", body, a.StatusCode, a.Body, a.Header)
				}
			})
		}
	})
	t.Run("AfterTheWork", func(t *testing.T) {
		t.Parallel()
		var s *shop
		s = open(t, nil, func(c *gin.Context) {
			c.Header("X-Secret", "1")
			c.String(200, "done")
			s.Sever()
		})
		if a := adaptertest.Post(t, s.url, "k", ""); a.StatusCode != http.StatusServiceUnavailable || strings.Contains(a.Body, "done") || a.Header.Get("X-Secret") != "" {
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

func TestClientDisconnects(t *testing.T) {
	t.Parallel()
	running, release := make(chan struct{}), make(chan struct{})
	s := open(t, nil, func(c *gin.Context) {
		close(running)
		<-release
		if err := c.Request.Context().Err(); err != nil {
			t.Errorf("the handler's context: %v", err)
		}
		c.String(200, "done")
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

func TestStreamsPassThrough(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(c *gin.Context) {
		n := 0
		c.Stream(func(w io.Writer) bool {
			n++
			_, _ = io.WriteString(w, "tick ")
			return n < 3
		})
	})
	if a := adaptertest.Post(t, s.url, "k", ""); a.StatusCode != http.StatusOK || a.Body != "tick tick tick " {
		t.Errorf("got %d %q", a.StatusCode, a.Body)
	}
	adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 410)
	s.ran(1)
}

func TestHijackedConnections(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(c *gin.Context) {
		conn, _, err := c.Writer.Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 299 Mine\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		_ = conn.Close()
	})
	adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 299)
	adaptertest.Eventually(t, "a retry that is told so", func() bool { return adaptertest.Post(t, s.url, "k", "").StatusCode == http.StatusGone })
	s.ran(1)
}

func TestTheRestOfTheChainIsAborted(t *testing.T) {
	t.Parallel()
	aborted := atomic.Bool{}
	s := open(t, nil, func(c *gin.Context) { c.String(200, "done") }, func(c *gin.Context) {
		c.Next()
		aborted.Store(c.IsAborted())
	})
	adaptertest.Post(t, s.url, "k", "")
	if aborted.Load() {
		t.Error("a chain that ran is aborted")
	}
	adaptertest.Post(t, s.url, "k", "")
	if !aborted.Load() {
		t.Error("a replay does not abort the chain")
	}
}

func TestScope(t *testing.T) {
	t.Parallel()
	s := adaptertest.NewStore(t)
	m, err := httpidem.New(s.Service, ginidem.Scope(func(c *gin.Context) (string, error) {
		if c.GetString("user") == "" {
			return "", errors.New("nobody")
		}
		return c.GetString("user") + c.Param("shelf"), nil
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := gin.New()
	r.Use(func(c *gin.Context) { c.Set("user", c.GetHeader(adaptertest.CallerHeader)) }, ginidem.New(m))
	r.POST("/orders/:shelf", func(c *gin.Context) { c.String(200, "%s", c.GetString("user")) })
	url := adaptertest.Serve(t, r).URL
	for _, name := range []string{"alice", "bob"} {
		if a := adaptertest.Post(t, url+"/orders/1", "k", "", func(r *http.Request) { r.Header.Set(adaptertest.CallerHeader, name) }); a.Body != name {
			t.Errorf("%s got %q", name, a.Body)
		}
	}
	adaptertest.WantStatus(t, adaptertest.Post(t, url+"/orders/1", "k", "", func(r *http.Request) { r.Header.Del(adaptertest.CallerHeader) }), 403)
	// Outside of an engine there is no context to be asked.
	plain := adaptertest.Serve(t, m.Handler(http.NotFoundHandler())).URL
	adaptertest.WantStatus(t, adaptertest.Post(t, plain, "k", ""), 403)
}

func TestNewRefusesNil(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	ginidem.New(nil)
}

// gzipped is what gin's own compression does: it announces the encoding before the rest of the
// chain runs.
func gzipped(c *gin.Context) {
	if !strings.Contains(c.GetHeader("Accept-Encoding"), "gzip") {
		return
	}
	c.Header("Content-Encoding", "gzip")
	z := gzip.NewWriter(c.Writer)
	c.Writer = &zipWriter{c.Writer, z}
	defer func() { _ = z.Close() }()
	c.Next()
}

type zipWriter struct {
	gin.ResponseWriter
	to io.Writer
}

func (w *zipWriter) WriteHeader(status int) {
	w.Header().Del("Content-Length")
	w.ResponseWriter.WriteHeader(status)
}

func (w *zipWriter) Write(p []byte) (int, error)       { return w.to.Write(p) }
func (w *zipWriter) WriteString(s string) (int, error) { return w.to.Write([]byte(s)) }

func TestCompressionInFrontDoesWhatEachRetryAccepts(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("ordered ", 500)
	s := open(t, nil, func(c *gin.Context) { c.String(200, text) }, gzipped)
	adaptertest.WantCompressed(t, s.url, text)
	s.ran(2)
}
