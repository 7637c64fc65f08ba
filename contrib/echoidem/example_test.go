package echoidem_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/alicebob/miniredis/v2"
	"github.com/labstack/echo/v5"
	"github.com/labstack/echo/v5/middleware"

	"github.com/redisidem/redisidem/contrib/echoidem"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// authenticate stands for the authentication of an API.
func authenticate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c *echo.Context) error {
		c.Set("tenant", "acme")
		return next(c)
	}
}

// tenantOf returns the authenticated caller, whose key it is. A scope must not be a value that the
// caller can choose.
func tenantOf(c *echo.Context) (string, error) {
	if tenant, ok := c.Get("tenant").(string); ok {
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
	idem, err := httpidem.New(svc, echoidem.Scope(tenantOf), nil)
	if err != nil {
		fmt.Println(err)
		return
	}

	e := echo.New()
	e.Use(middleware.Recover(), authenticate, echoidem.New(idem))
	charges := 0
	e.POST("/charges", func(c *echo.Context) error {
		charges++
		attempt := httpidem.Stage(c.Request().Context()).Attempt()
		return c.JSON(http.StatusCreated, map[string]int{"charge": charges, "attempt": attempt})
	})

	send := func(body string) {
		req := httptest.NewRequest(http.MethodPost, "/charges", strings.NewReader(body))
		req.Header.Set("Idempotency-Key", `"8e03978e-40d5-43dd-bc93-6894a57f9324"`)
		w := httptest.NewRecorder()
		e.ServeHTTP(w, req)
		fmt.Println(w.Code, w.Header().Get("Content-Type"), "replayed:", w.Header().Get("Idempotency-Replayed") != "")
		if w.Code < 400 {
			fmt.Print(w.Body)
		}
	}
	send(`{"cents":1200}`)
	send(`{"cents":1200}`) // a retry
	send(`{"cents":9900}`) // a mistake
	// Output:
	// 201 application/json replayed: false
	// {"attempt":1,"charge":1}
	// 201 application/json replayed: true
	// {"attempt":1,"charge":1}
	// 422 application/problem+json replayed: false
}
