package redisidem_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"reflect"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
)

func TestSeedM1ClientsKeyIsStored(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		key := start(t, e.service().Scope("a"), "chosen by the client")
		if key.Value != "chosen by the client" {
			t.Fatalf("the key is %q, want %q", key.Value, "chosen by the client")
		}
		_, err := e.service().Scope("a").WorkStage(ctx, key, finish("paid"))
		mustBe(t, err, nil)
		// The response was lost, and the client tries again at another process.
		again := start(t, e.service().Scope("a"), "chosen by the client")
		mustHold(t, again, `"paid"`)
		if !again.Replayed() {
			t.Error("not a replay")
		}
	})
}

func TestSeedM3KeyStandsForOneRequest(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		start(t, sc, "k")
		mustRefuseOthers := func(when string) {
			for what, other := range otherRequests {
				if _, err := sc.InitializeRequest(ctx, "k", other); !errors.Is(err, redisidem.ErrFingerprintMismatch) {
					t.Errorf("%s, another %s: %v", when, what, err)
				}
				if _, err := sc.Do(ctx, "k", other, never(t)); !errors.Is(err, redisidem.ErrFingerprintMismatch) {
					t.Errorf("%s, the work of another %s: %v", when, what, err)
				}
			}
		}
		mustRefuseOthers("started")
		_, err := sc.WorkStage(ctx, start(t, sc, "k"), finish("done"))
		mustBe(t, err, nil)
		mustRefuseOthers("finished")
	})
}

func TestSeedM4OtherRouteCannotPoisonAKey(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		_, err := sc.Do(ctx, "k", request, returns(redisidem.Advance("payment_authorized")))
		mustBe(t, err, nil)
		stages := map[string]redisidem.StageFunc{redisidem.Started: never(t)}
		e.mustNotChange(e.client(), "the other route", func() {
			_, err := drive(sc, "k", otherRequests["path"], stages)
			mustBe(t, err, redisidem.ErrFingerprintMismatch)
			_, err = drive(sc, "k", request, stages)
			mustBe(t, err, redisidem.ErrUnknownRecoveryPoint)
		})
		key, err := drive(sc, "k", request, map[string]redisidem.StageFunc{"payment_authorized": finish("done")})
		mustBe(t, err, nil)
		mustHold(t, key, `"done"`)
	})
}

// TestTooFewReplicasAreAnAnswerWithAnyReadTimeout has a client whose read timeout is much shorter
// than Config.Timeout.
func TestTooFewReplicasAreAnAnswerWithAnyReadTimeout(t *testing.T) {
	t.Parallel()
	opt := options(rediscase.Server(t).Addr(), 3)
	opt.ReadTimeout = time.Second
	client := redis.NewClient(opt)
	t.Cleanup(func() { _ = client.Close() })
	svc, err := redisidem.New(client, &redisidem.Config{Durability: 1, Timeout: 20 * time.Second})
	mustBe(t, err, nil)
	t.Cleanup(func() { mustBe(t, svc.Close(ctx), nil) })
	_, err = svc.Scope("a").InitializeRequest(ctx, "k", request)
	mustBe(t, err, redisidem.ErrNotDurable)
}

// TestAnswerOfASingleCommitIsReadLikeAnyOther replays finished keys in the two ways that the
// scripts read them: a record with nothing but the answer of a single commit in one piece, and all
// others field by field. A service that keeps copies asks for the record's life as well, and
// therefore gets the second way.
func TestAnswerOfASingleCommitIsReadLikeAnyOther(t *testing.T) {
	onTwoServers(t, func(t *testing.T, e *env) {
		whole, fields := e.service().Scope("a"), e.service(func(c *redisidem.Config) { c.CacheBytes = 1 << 20 }).Scope("a")
		for name, outcome := range map[string]redisidem.Outcome{
			"answer":        redisidem.Finish(redisidem.JSON(200, "done")),
			"no answer":     redisidem.Finish(redisidem.Response{}),
			"no headers":    redisidem.Finish(redisidem.Response{Code: 201, Body: []byte("\x00\n7 7")}),
			"no body":       redisidem.Finish(redisidem.Response{Code: 204, Header: map[string][]string{"A": {"1", "2"}}}),
			"200 kB":        redisidem.Finish(redisidem.Response{Code: 200, Header: map[string][]string{"A": {"1"}}, Body: bytes.Repeat([]byte("\xff"), 200_000)}),
			"failed before": redisidem.Finish(redisidem.JSON(200, "at last")),
			"with a state":  redisidem.Finish(redisidem.JSON(200, "done")).WithState("left"),
		} {
			if name == "failed before" {
				_, err := whole.Do(ctx, name, request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					return redisidem.Outcome{}, io.EOF
				})
				mustBe(t, err, io.EOF)
			}
			_, err := whole.Do(ctx, name, request, returns(outcome))
			mustBe(t, err, nil)
			one, err := whole.Do(ctx, name, request, never(t))
			mustBe(t, err, nil)
			two, err := fields.Do(ctx, name, request, never(t))
			mustBe(t, err, nil)
			found, err := whole.InitializeRequest(ctx, name, request)
			mustBe(t, err, nil)
			if !reflect.DeepEqual(one, two) {
				t.Errorf("%s: in one piece\n%+v\nfield by field\n%+v", name, one, two)
			}
			if !reflect.DeepEqual(one, found) {
				t.Errorf("%s: by a claim\n%+v\nby create\n%+v", name, one, found)
			}
		}
	})
}
