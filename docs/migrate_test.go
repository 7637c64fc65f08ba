package docs

import (
	"context"
	"crypto/md5" //nolint:gosec // the digest of another system, not a defence
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/idemtest"
)

// store is a service on its way from a lock by hand. Its methods are in migrate.md.
type store struct {
	service  *redisidem.Service
	redis    redis.UniversalClient
	locks    *redislock.Client
	provider func(ctx context.Context, key string) (string, error)
}

func (s *store) charge(ctx context.Context, tenant, key string, req redisidem.Request) (string, error) {
	receipt, _, err := redisidem.Do(ctx, s.service.Scope(tenant), key, req, func(ctx context.Context, _ *redisidem.Stage) (string, error) {
		lock, err := s.locks.Obtain(ctx, "lock:"+key, 30*time.Second, nil) // the lock of the old replicas
		if err != nil {
			return "", err
		}
		defer func() { _ = lock.Release(context.WithoutCancel(ctx)) }()
		old, err := s.redis.Get(ctx, "answer:"+key).Result()
		if !errors.Is(err, redis.Nil) {
			return old, err
		}
		receipt, err := s.provider(ctx, key)
		if err != nil {
			return "", err
		}
		return receipt, s.redis.Set(ctx, "answer:"+key, receipt, 24*time.Hour).Err() // for the old replicas
	})
	return receipt, err
}

// setup returns a store, and how often its provider was called.
func setup(t *testing.T) (s *store, calls *int) {
	t.Helper()
	server := idemtest.NewServer(t)
	service := server.Service(nil)
	calls = new(int)
	client := server.Client()
	return &store{service: service, redis: client, locks: redislock.New(client), provider: func(context.Context, string) (string, error) {
		*calls++
		return fmt.Sprint("receipt ", *calls), nil
	}}, calls
}

func TestMigrationFromALock(t *testing.T) {
	t.Parallel()
	req := redisidem.Request{Method: "POST", Path: "/charges"}
	t.Run("FinishedByAnOldReplica", func(t *testing.T) {
		t.Parallel()
		s, calls := setup(t)
		if err := s.redis.Set(t.Context(), "answer:k", "old receipt", time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			receipt, err := s.charge(t.Context(), "tenant", "k", req)
			if err != nil || receipt != "old receipt" || *calls != 0 {
				t.Errorf("%q, %v after %d calls of the provider", receipt, err, *calls)
			}
			s.redis.Del(t.Context(), "answer:k") // the second answer is redisidem's
		}
	})
	t.Run("FinishedByANewReplica", func(t *testing.T) {
		t.Parallel()
		s, calls := setup(t)
		receipt, err := s.charge(t.Context(), "tenant", "k", req)
		if err != nil || *calls != 1 {
			t.Fatalf("%v after %d calls of the provider", err, *calls)
		}
		if old, err := s.redis.Get(t.Context(), "answer:k").Result(); err != nil || old != receipt {
			t.Errorf("an old replica finds %q, %v, not %q", old, err, receipt)
		}
	})
	t.Run("AnOldReplicaWorks", func(t *testing.T) {
		t.Parallel()
		s, calls := setup(t)
		lock, err := s.locks.Obtain(t.Context(), "lock:k", time.Minute, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.charge(t.Context(), "tenant", "k", req); !errors.Is(err, redislock.ErrNotObtained) || *calls != 0 {
			t.Errorf("%v after %d calls of the provider, want redislock's refusal", err, *calls)
		}
		if err := lock.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.charge(t.Context(), "tenant", "k", req); err != nil || *calls != 1 {
			t.Errorf("%v after %d calls of the provider", err, *calls)
		}
	})
}

// powertools reads the records of a function. Its method is in migrate.md.
type powertools struct {
	redis    redis.UniversalClient
	function string // FUNCTION.QUALIFIED_NAME
}

var errInvocationRuns = errors.New("an invocation of the old function is under way")

func (p *powertools) answer(ctx context.Context, id string) (data string, found bool, err error) {
	text, err := json.Marshal(id) // event_key_jmespath selected one text
	if err != nil {
		return "", false, err
	}
	raw, err := p.redis.Get(ctx, fmt.Sprintf("%s#%x", p.function, md5.Sum(text))).Bytes()
	if errors.Is(err, redis.Nil) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	var record struct {
		Status     string `json:"status"`
		Data       string `json:"data"`                   // JSON in a text
		InProgress int64  `json:"in_progress_expiration"` // Unix time in milliseconds
	}
	if err := json.Unmarshal(raw, &record); err != nil {
		return "", false, fmt.Errorf("record of Powertools: %w", err)
	}
	if record.Status == "INPROGRESS" && time.Now().UnixMilli() < record.InProgress {
		return "", false, errInvocationRuns // the message or the request comes again
	}
	return record.Data, record.Status == "COMPLETED", nil
}

// powertoolsName is the name that Python makes:
// hashlib.md5(json.dumps("order-1").encode()).hexdigest().
const powertoolsName = "orders.app.handler#729040816f7330c4cb31f54a56f59a7b"

func TestMigrationFromPowertools(t *testing.T) {
	t.Parallel()
	soon := time.Now().Add(time.Hour).UnixMilli()
	for _, test := range []struct {
		name, record string
		data         string
		found        bool
		err          error
	}{
		{name: "Absent"},
		{name: "Completed", record: `{"data": "{\"id\": 1}", "status": "COMPLETED", "expiration": 1796000000}`, data: `{"id": 1}`, found: true},
		{name: "UnderWay", record: fmt.Sprintf(`{"status": "INPROGRESS", "expiration": 1796000000, "in_progress_expiration": %d}`, soon), err: errInvocationRuns},
		{name: "TimedOut", record: `{"status": "INPROGRESS", "expiration": 1796000000, "in_progress_expiration": 1764000000000}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client := idemtest.NewServer(t).Client()
			if test.record != "" {
				if err := client.Set(t.Context(), powertoolsName, test.record, time.Hour).Err(); err != nil {
					t.Fatal(err)
				}
			}
			data, found, err := (&powertools{client, "orders.app.handler"}).answer(t.Context(), "order-1")
			if data != test.data || found != test.found || !errors.Is(err, test.err) {
				t.Errorf("%q, %v, %v", data, found, err)
			}
		})
	}
}
