package fiberidem_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/idempotency"

	"github.com/redisidem/redisidem/contrib/fiberidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemtest"
)

// TestMigrationFromFibersMiddleware is about docs/migrate.md: apps with Fiber's own middleware,
// with both, and with the new one alone share a storage and a service.
func TestMigrationFromFibersMiddleware(t *testing.T) {
	t.Parallel()
	service := idemtest.NewService(t, nil)
	storage := &memory{}
	tenant := func(fiber.Ctx) (string, error) { return "tenant", nil }
	idem, err := httpidem.New(service, fiberidem.Scope(tenant), &httpidem.Config{
		Key: httpidem.KeyConfig{Header: "X-Idempotency-Key", Optional: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	charges := 0
	start := func(use func(*fiber.App)) string {
		app := fiber.New()
		use(app)
		app.Post("/charges", func(c fiber.Ctx) error {
			charges++
			return c.Status(http.StatusCreated).SendString(fmt.Sprint("receipt ", charges))
		})
		return serve(t, app)
	}
	before := start(func(app *fiber.App) {
		app.Use(idempotency.New(idempotency.Config{Storage: storage}))
	})
	during := start(func(app *fiber.App) {
		app.Use(
			fiberidem.New(idem),
			idempotency.New(idempotency.Config{Storage: storage}),
		)
	})
	after := start(func(app *fiber.App) {
		app.Use(fiberidem.New(idem))
	})

	steps := []struct{ name, app, key, want string }{
		{"an old replica charges", before, "10000000-0000-4000-8000-000000000001", "receipt 1"},
		{"a new one finds the answer", during, "10000000-0000-4000-8000-000000000001", "receipt 1"},
		{"and keeps it", after, "10000000-0000-4000-8000-000000000001", "receipt 1"},
		{"a new replica charges", during, "10000000-0000-4000-8000-000000000002", "receipt 2"},
		{"an old one finds the answer", before, "10000000-0000-4000-8000-000000000002", "receipt 2"},
		{"the new middleware alone has it", after, "10000000-0000-4000-8000-000000000002", "receipt 2"},
		{"a request without a key charges, as before", during, "", "receipt 3"},
	}
	for _, step := range steps {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, step.app+"/charges", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if step.key != "" {
			r.Header.Set("X-Idempotency-Key", step.key)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusCreated || string(body) != step.want {
			t.Errorf("%s: %d %q, %v, want %q", step.name, response.StatusCode, body, err, step.want)
		}
	}
}

// memory is a storage of Fiber that several apps share. Its values do not expire.
type memory struct{ values sync.Map }

func (m *memory) GetWithContext(_ context.Context, key string) ([]byte, error) {
	value, ok := m.values.Load(key)
	if !ok {
		return nil, nil //nolint:nilnil // as the interface wants it
	}
	return value.([]byte), nil //nolint:forcetypeassert // only Set stores values
}

func (m *memory) SetWithContext(_ context.Context, key string, value []byte, _ time.Duration) error {
	m.values.Store(key, value)
	return nil
}

func (m *memory) DeleteWithContext(_ context.Context, key string) error {
	m.values.Delete(key)
	return nil
}

func (m *memory) ResetWithContext(context.Context) error {
	m.values.Clear()
	return nil
}

func (m *memory) Get(key string) ([]byte, error) {
	return m.GetWithContext(context.Background(), key)
}

func (m *memory) Set(key string, value []byte, d time.Duration) error {
	return m.SetWithContext(context.Background(), key, value, d)
}

func (m *memory) Delete(key string) error { return m.DeleteWithContext(context.Background(), key) }
func (m *memory) Reset() error            { return m.ResetWithContext(context.Background()) }
func (m *memory) Close() error            { return nil }
