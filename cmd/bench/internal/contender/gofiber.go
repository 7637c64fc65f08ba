package contender

import (
	"context"
	"errors"
	"fmt"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/idempotency"
	storage "github.com/gofiber/storage/redis/v3"
	"github.com/valyala/fasthttp"
)

var gofiber = Kind{
	Name: "gofiber", Title: "fiber's middleware",
	About: "fiber's idempotency middleware with its Redis storage, called without a network. Its lock is a mutex of the " +
		"process: two replicas execute the same request.",
	Replays: true, Waits: true,
	Open: func(ctx context.Context, dial Dial, prefix string) (Contender, error) {
		client, err := dial.Client(ctx)
		if err != nil {
			return nil, err
		}
		g := &fiberContender{store: storage.NewFromConnection(client), prefix: prefix}
		app := fiber.New()
		app.Use(idempotency.New(idempotency.Config{
			Storage: g.store, Lifetime: retention, KeyHeader: keyHeader,
			KeyHeaderValidate: func(string) error { return nil },
		}))
		app.Post("/*", g.serve)
		g.handler = app.Handler()
		return g, nil
	},
}

const keyHeader = "Idempotency-Key"

type fiberContender struct {
	store   *storage.Storage
	prefix  string
	handler fasthttp.RequestHandler
}

// running is the work of a request. The request's context carries it to the handler.
type running struct {
	ctx  context.Context
	work Work
	ran  bool
	err  error
}

const runningKey = "bench.running"

func (g *fiberContender) serve(c fiber.Ctx) error {
	r, ok := c.RequestCtx().UserValue(runningKey).(*running)
	if !ok {
		return errors.New("the request carries no work")
	}
	var body []byte
	body, r.err = r.work(r.ctx)
	r.ran = true
	if r.err != nil {
		return r.err
	}
	return c.Send(body)
}

func (g *fiberContender) Do(ctx context.Context, r Request, work Work) (response []byte, replayed bool, err error) {
	var c fasthttp.RequestCtx
	c.Request.Header.SetMethod(r.Method)
	c.Request.SetRequestURI(r.Path)
	c.Request.Header.Set(keyHeader, g.prefix+r.Key)
	c.Request.SetBody(r.Params)
	run := &running{ctx: ctx, work: work}
	c.SetUserValue(runningKey, run)
	g.handler(&c)
	if run.err != nil {
		return nil, false, run.err
	}
	if code := c.Response.StatusCode(); code != 200 {
		return nil, false, fmt.Errorf("status %d: %s", code, c.Response.Body())
	}
	return c.Response.Body(), !run.ran, nil
}

func (g *fiberContender) Close() error { return g.store.Close() }
