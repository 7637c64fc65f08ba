package idemtest

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/faultnet"
	"github.com/redisidem/redisidem/redisidem"
)

// Conformance checks that services keep the promises of the library with the caller's own client:
// its options, its hooks, the network and the server. Each promise is a subtest. The subtests run
// in parallel and use only the public API.
//
// client returns a new client each time, without connections, always of the same Redis. Conformance
// closes the clients. cfg is the configuration of the services and may be nil. Each subtest has its
// own Namespace, whose keys are removed at the end. Lease defaults to 2 s, because some subtests
// wait until it lapses. Timeout defaults to 5 s, because the machine may be busy with other tests.
//
// Conformance blocks for a few leases. It cannot be called inside a bubble of testing/synctest.
func Conformance(t *testing.T, client func(tb testing.TB) redis.UniversalClient, cfg *redisidem.Config) {
	t.Helper()
	conformance(tRunner{t}, client, cfg)
}

func conformance(t runner, client func(tb testing.TB) redis.UniversalClient, cfg *redisidem.Config) {
	t.Helper()
	if client == nil {
		t.Fatal("idemtest: Conformance needs a function that makes clients")
	}
	for _, one := range clauses {
		t.run(one.name, func(t runner) {
			t.Parallel()
			newClause(t, client, cfg).check(one.check)
		})
	}
}

// clauses are the promises of a service.
var clauses = []struct {
	name  string
	check func(*clause)
}{
	{"ServerIsSafe", serverIsSafe},
	{"RetryGetsTheSameBytes", retryGetsTheSameBytes},
	{"BytesOfAllKindsSurvive", bytesOfAllKindsSurvive},
	{"OtherRequestIsRefused", otherRequestIsRefused},
	{"StagesContinueInAnotherProcess", stagesContinue},
	{"FailedStageCanBeRetried", failedStageCanBeRetried},
	{"ConcurrentCallersRunOnce", concurrentCallersRunOnce},
	{"LockedErrorHasRetryAfter", lockedErrorHasRetryAfter},
	{"WaiterGetsTheAnswer", waiterGetsTheAnswer},
	{"KeyOfADeadWorkerIsTakenOver", keyOfADeadWorkerIsTakenOver},
	{"LateCommitIsFenced", lateCommitIsFenced},
	{"LateCommitWithoutASuccessorIsStored", lateCommitIsStored},
	{"LostMessagesChangeNothing", lostMessagesChangeNothing},
	{"CommitWithoutAReplyIsRetried", commitIsRetried},
	{"EffectsAreAppliedWithTheirCommit", effectsAreAppliedWithTheirCommit},
	{"RefusedEffectStoresNothing", refusedEffectStoresNothing},
	{"FlowsRunReconcileAndCompensate", flowsRun},
	{"KeyBelongsToItsFlow", keyBelongsToItsFlow},
	{"UpdateDeleteAndUnlock", updateDeleteAndUnlock},
}

// clause is one subtest of Conformance, with Redis keys of its own.
type clause struct {
	runner
	ctx      context.Context
	client   func(tb testing.TB) redis.UniversalClient
	cfg      redisidem.Config
	keyspace *keyspace
}

func newClause(t runner, client func(tb testing.TB) redis.UniversalClient, cfg *redisidem.Config) *clause {
	c := &clause{runner: t, ctx: t.Context(), client: client, cfg: *withTimeout(cfg)}
	c.cfg.Namespace = "idemtest-" + strings.ToLower(rand.Text()[:12])
	if c.cfg.Lease == 0 {
		c.cfg.Lease = 2 * time.Second
	}
	return c
}

// check runs the test of the clause, and then checks the keys that it has left in Redis.
func (c *clause) check(test func(*clause)) {
	c.Helper()
	// Cleanups run in reverse order: the services end before Redis is checked.
	c.keyspace = &keyspace{t: c, namespace: c.cfg.Namespace, client: c.client(c)}
	c.Cleanup(c.keyspace.close)
	c.Cleanup(func() {
		if !c.Failed() {
			c.keyspace.mustBeTidy()
		}
	})
	test(c)
}

// service returns a service with a client of its own, as another process would have it.
func (c *clause) service() *redisidem.Service {
	c.Helper()
	svc, _ := c.wired()
	return svc
}

// scope returns the scope of most clauses, of a new service.
func (c *clause) scope() *redisidem.Scope {
	c.Helper()
	return c.service().Scope(c.scopeName())
}

func (c *clause) scopeName() string { return "customer {42}" }

// wired returns a service and the network of its client.
func (c *clause) wired(change ...func(*redisidem.Config)) (*redisidem.Service, *faultnet.Network) {
	c.Helper()
	cfg := c.cfg
	for _, f := range change {
		f(&cfg)
	}
	client, network := c.client(c), new(faultnet.Network)
	network.Attach(client)
	svc, err := redisidem.New(client, &cfg)
	if err != nil {
		c.Fatalf("New: %v", err)
	}
	c.Cleanup(func() {
		network.Set(faultnet.Normal)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), patience)
		defer cancel()
		if err := svc.Close(ctx); err != nil {
			c.Errorf("Close: %v", err)
		}
		_ = client.Close()
	})
	return svc, network
}

// orderRequest is the request of most clauses.
var orderRequest = redisidem.Request{Method: "POST", Path: "/orders", Params: map[string]any{"item": "book", "cents": 1200}}

// finishWith returns a stage that finishes the work with a text.
func finishWith(text string) redisidem.StageFunc {
	return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Finish(redisidem.JSON(201, text)), nil
	}
}

// mustNotRun is a stage that fails the test.
func (c *clause) mustNotRun(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
	c.Errorf("a stage ran that must not run")
	return redisidem.Finish(redisidem.JSON(500, "ran")), nil
}

// must ends the test unless err is nil.
func (c *clause) must(what string, err error) {
	c.Helper()
	if err != nil {
		c.Fatalf("%s: %v", what, err)
	}
}

// want fails the test unless err matches wanted.
func (c *clause) want(what string, err, wanted error) {
	c.Helper()
	if !errors.Is(err, wanted) {
		c.Errorf("%s: the error is %v, want %v", what, err, wanted)
	}
}

// answered ends the test unless the key is finished with the text.
func (c *clause) answered(what string, key *redisidem.Key, err error, text string, replayed bool) {
	c.Helper()
	c.must(what, err)
	want := redisidem.JSON(201, text)
	if !key.Finished() || !same(key.Response, &want) || key.Replayed() != replayed {
		c.Fatalf("%s: the key is at %q with the answer %s, replayed: %t; want %s, replayed: %t", what, key.RecoveryPoint,
			describe(key.Response), key.Replayed(), describe(&want), replayed)
	}
}
