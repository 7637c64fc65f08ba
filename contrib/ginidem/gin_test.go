package ginidem_test

import (
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
	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestMain(m *testing.M) {
	redis.SetLogger(adaptertest.Quiet{})
	gin.SetMode(gin.TestMode)
	leak.Main(m)
}

// open serves one handler at /orders/:shelf, with the given chain in front of the middleware.
func open(t *testing.T, cfg *httpidem.Config, handler gin.HandlerFunc, front ...gin.HandlerFunc) *adaptertest.Shop {
	t.Helper()
	s := adaptertest.NewShop(t, cfg)
	r := gin.New()
	r.Use(front...)
	r.Use(ginidem.New(s.Adapter))
	r.POST("/orders/:shelf", func(c *gin.Context) {
		s.Runs.Add(1)
		handler(c)
	})
	s.URL = adaptertest.Serve(t, r).URL + "/orders/7"
	return s
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
			first, _ := open(t, nil, answerWith).WantReplay(`{"Item":"lamp"}`)
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
	first := s.Post("k", "")
	again := s.Post("k", "")
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

func TestHandlersSeeTheWritersState(t *testing.T) {
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
	first := s.Post("k", "")
	adaptertest.WantStatus(t, first, 203)
	adaptertest.WantReplay(t, s.Post("k", ""), first)
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
	adaptertest.WantStatus(t, s.Post("k", ""), 200)
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
				a := s.Post("k", "")
				if a.StatusCode < 400 || !strings.Contains(a.Body, "no such item") || a.Replayed() || a.Header.Get("Idempotency-Key") != "k" {
					t.Errorf("got %d %q %v", a.StatusCode, a.Body, a.Header)
				}
				bodies = append(bodies, a.Body)
			}
			s.WantRuns(2)
			if bodies[0] != bodies[1] {
				t.Errorf("the answers differ: %q", bodies)
			}
		})
		t.Run(name+"AnsweredInFrontAndNothingRunsTwice", func(t *testing.T) {
			t.Parallel()
			s := open(t, &httpidem.Config{Status: httpidem.KeepAll}, handler, answeringErrors)
			if a := s.Post("k", ""); a.StatusCode < 400 || !strings.Contains(a.Body, "no such item") {
				t.Errorf("got %d %q", a.StatusCode, a.Body)
			}
			adaptertest.WantStatus(t, s.Post("k", ""), 410)
			s.WantRuns(1)
		})
		t.Run(name+"AnsweredBehind", func(t *testing.T) {
			t.Parallel()
			s := adaptertest.NewShop(t, nil)
			r := gin.New()
			r.Use(ginidem.New(s.Adapter), answeringErrors)
			r.POST("/", func(c *gin.Context) { s.Runs.Add(1); handler(c) })
			url := adaptertest.Serve(t, r).URL
			first := adaptertest.Post(t, url, "k", "")
			if !strings.Contains(first.Body, "no such item") {
				t.Errorf("got %q", first.Body)
			}
			adaptertest.WantReplay(t, adaptertest.Post(t, url, "k", ""), first)
			s.WantRuns(1)
		})
	}
	t.Run("BesidesAnAnswer", func(t *testing.T) {
		t.Parallel()
		s := open(t, nil, func(c *gin.Context) {
			_ = c.Error(errors.New("the mail was not sent"))
			c.Status(204)
		})
		first := s.Post("k", "")
		adaptertest.WantStatus(t, first, 204)
		adaptertest.WantReplay(t, s.Post("k", ""), first)
		s.WantRuns(1)
	})
	t.Run("NotAnswered", func(t *testing.T) {
		t.Parallel()
		s := open(t, nil, failing["AbortWithError"])
		s.WantEach(400)
	})
}

func TestErrorsAreAnsweredInFrontWithoutTheStore(t *testing.T) {
	t.Parallel()
	s := open(t, &httpidem.Config{FailOpen: true}, func(c *gin.Context) {
		_ = c.Error(errors.New("to be answered in front"))
	}, func(c *gin.Context) {
		c.Next()
		if len(c.Errors) > 0 && !c.Writer.Written() {
			c.String(500, "answered in front")
		}
	})
	s.Sever()
	if a := s.Post("k", ""); a.StatusCode != http.StatusInternalServerError || a.Body != "answered in front" || a.Header.Get("Idempotency-Key") != "k" {
		t.Errorf("got %d %q %v", a.StatusCode, a.Body, a.Header)
	}
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
	if a := s.Post("k", ""); a.StatusCode != http.StatusOK || a.Body != "tick tick tick " {
		t.Errorf("got %d %q", a.StatusCode, a.Body)
	}
	adaptertest.WantStatus(t, s.Post("k", ""), 410)
	s.WantRuns(1)
}

func TestHijackedConnections(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(c *gin.Context) {
		conn, _, err := c.Writer.Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if err := adaptertest.Hijacked(conn); err != nil {
			t.Error(err)
		}
	})
	s.WantHijacked()
}

func TestTheRestOfTheChainIsAborted(t *testing.T) {
	t.Parallel()
	aborted := atomic.Bool{}
	s := open(t, nil, func(c *gin.Context) { c.String(200, "done") }, func(c *gin.Context) {
		c.Next()
		aborted.Store(c.IsAborted())
	})
	s.Post("k", "")
	if aborted.Load() {
		t.Error("a chain that ran is aborted")
	}
	s.Post("k", "")
	if !aborted.Load() {
		t.Error("a replay does not abort the chain")
	}
}

func TestScope(t *testing.T) {
	t.Parallel()
	s := adaptertest.NewStore(t)
	m, err := httpidem.New(s.Service, ginidem.Scope(func(c *gin.Context) (string, error) {
		if c.GetString("user") == "" {
			return "", errors.New("no user")
		}
		return c.GetString("user") + c.Param("shelf"), nil
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := gin.New()
	r.Use(func(c *gin.Context) { c.Set("user", c.GetHeader(adaptertest.CallerHeader)) }, ginidem.New(m))
	r.POST("/orders/:shelf", func(c *gin.Context) { c.String(200, "%s", c.GetString("user")) })
	// Outside of an engine the scope function has no context.
	outside := adaptertest.Serve(t, m.Handler(http.NotFoundHandler())).URL
	adaptertest.WantScopes(t, adaptertest.Serve(t, r).URL+"/orders/1", outside)
}

func TestNewRefusesNil(t *testing.T) {
	t.Parallel()
	adaptertest.WantPanic(t, func() { ginidem.New(nil) })
}
