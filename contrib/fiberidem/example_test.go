package fiberidem_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/alicebob/miniredis/v2"
	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/recover"

	"github.com/redisidem/redisidem/contrib/fiberidem"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// authenticate stands for the authentication of an API.
func authenticate(c fiber.Ctx) error {
	c.Locals("tenant", "acme")
	return c.Next()
}

// tenantOf returns the authenticated caller, whose key it is. A scope must not be a value that the
// caller can choose.
func tenantOf(c fiber.Ctx) (string, error) {
	if tenant, ok := c.Locals("tenant").(string); ok {
		return tenant, nil
	}
	return "", errors.New("not authenticated")
}

// A handler runs once for each key, and retries get its answer.
func Example() {
	server, err := miniredis.Run() // stands for a Redis server in production
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	svc, err := redisidem.Open(context.Background(), "redis://"+server.Addr(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close(context.Background()) }()
	idem, err := httpidem.New(svc, fiberidem.Scope(tenantOf), nil)
	if err != nil {
		fmt.Println(err)
		return
	}

	app := fiber.New()
	app.Use(recover.New(), authenticate, fiberidem.New(idem))
	charges := 0
	app.Post("/charges", func(c fiber.Ctx) error {
		charges++
		attempt := httpidem.Stage(c.Context()).Attempt()
		return c.Status(fiber.StatusCreated).JSON(fiber.Map{"charge": charges, "attempt": attempt})
	})

	send := func(body string) {
		req := httptest.NewRequest(http.MethodPost, "/charges", strings.NewReader(body))
		req.Header.Set("Idempotency-Key", `"8e03978e-40d5-43dd-bc93-6894a57f9324"`)
		resp, err := app.Test(req)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		fmt.Println(resp.StatusCode, resp.Header.Get("Content-Type"), "replayed:", resp.Header.Get("Idempotency-Replayed") != "")
		if resp.StatusCode < 400 {
			answer, err := io.ReadAll(resp.Body)
			fmt.Println(string(answer), err)
		}
	}
	send(`{"cents":1200}`)
	send(`{"cents":1200}`) // a retry
	send(`{"cents":9900}`) // a mistake
	// Output:
	// 201 application/json; charset=utf-8 replayed: false
	// {"attempt":1,"charge":1} <nil>
	// 201 application/json; charset=utf-8 replayed: true
	// {"attempt":1,"charge":1} <nil>
	// 422 application/problem+json replayed: false
}
