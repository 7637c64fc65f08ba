package idemtest

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

// Conformance checks that services keep the library's promise with a client of the caller's own: its options, its hooks, what
// lies between it and the server, and the server itself. It has a subtest for each clause of the promise, which all run at
// the same time and only through the public API.
//
// client makes a new client, without connections, of one and the same Redis each time it is called; Conformance closes them.
// cfg is that of the services, or nil: Namespace is replaced by one for each clause, whose keys are removed in the end; Lease
// is by default 2 s, which some clauses wait for, and Timeout 5 s, since the machine may be busy with other tests.
//
// It blocks for some leases, and cannot be called inside of a bubble of testing/synctest.
func Conformance(t *testing.T, client func(tb testing.TB) redis.UniversalClient, cfg *redisidem.Config) {
	t.Helper()
	conformance(tRunner{t}, client, cfg)
}

func conformance(t runner, client func(tb testing.TB) redis.UniversalClient, cfg *redisidem.Config) {
	t.Helper()
	if client == nil {
		t.Fatal("idemtest: Conformance needs a way to make clients")
	}
	for _, one := range clauses {
		t.run(one.name, func(t runner) {
			t.Parallel()
			newClause(t, client, cfg).check(one.check)
		})
	}
}

// clauses are what a service promises.
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
	{"LockedTellsWhenToComeBack", lockedTellsWhenToComeBack},
	{"WaiterGetsTheAnswer", waiterGetsTheAnswer},
	{"DeadWorkersKeyIsTakenOver", deadWorkersKeyIsTakenOver},
	{"LateCommitIsFenced", lateCommitIsFenced},
	{"LateCommitThatNobodyContestsIsKept", lateCommitIsKept},
	{"LostMessagesChangeNothing", lostMessagesChangeNothing},
	{"CommitWithoutAnswerLandsLater", commitLandsLater},
	{"EffectsComeWithTheirCommit", effectsComeWithTheirCommit},
	{"RefusedEffectStoresNothing", refusedEffectStoresNothing},
	{"FlowsRunReconcileAndCompensate", flowsRun},
	{"KeyBelongsToItsFlow", keyBelongsToItsFlow},
	{"UpdateDeleteAndUnlock", updateDeleteAndUnlock},
}

// clause is one subtest of Conformance, with Redis keys of its own.
type clause struct {
	runner
	ctx    context.Context
	client func(tb testing.TB) redis.UniversalClient
	cfg    redisidem.Config
	store  *store
}

func newClause(t runner, client func(tb testing.TB) redis.UniversalClient, cfg *redisidem.Config) *clause {
	c := &clause{runner: t, ctx: t.Context(), client: client, cfg: *patient(cfg)}
	c.cfg.Namespace = "idemtest-" + strings.ToLower(rand.Text()[:12])
	if c.cfg.Lease == 0 {
		c.cfg.Lease = 2 * time.Second
	}
	return c
}

// check runs the clause's test, and then looks at what it has left in Redis.
func (c *clause) check(test func(*clause)) {
	c.Helper()
	// The cleanups run in the opposite order: the services end before the look is taken.
	c.store = &store{t: c, namespace: c.cfg.Namespace, client: c.client(c)}
	c.Cleanup(c.store.close)
	c.Cleanup(func() {
		if !c.Failed() {
			c.store.mustBeTidy()
		}
	})
	test(c)
}

// service makes a service as another process has it.
func (c *clause) service() *redisidem.Service {
	c.Helper()
	svc, _ := c.wired()
	return svc
}

// scope returns the scope in which most clauses work, in another process.
func (c *clause) scope() *redisidem.Scope {
	c.Helper()
	return c.service().Scope(c.scopeName())
}

func (c *clause) scopeName() string { return "customer {42}" }

// wired makes a service, and the wire that its client talks over.
func (c *clause) wired(change ...func(*redisidem.Config)) (*redisidem.Service, *wire) {
	c.Helper()
	cfg := c.cfg
	for _, f := range change {
		f(&cfg)
	}
	client, w := c.client(c), newWire()
	tapInto(client, w.line)
	svc, err := redisidem.New(client, &cfg)
	if err != nil {
		c.Fatalf("New: %v", err)
	}
	c.Cleanup(func() {
		w.mend()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), patience)
		defer cancel()
		if err := svc.Close(ctx); err != nil {
			c.Errorf("Close: %v", err)
		}
		_ = client.Close()
	})
	return svc, w
}

// ordered is the request of most clauses.
var ordered = redisidem.Request{Method: "POST", Path: "/orders", Params: map[string]any{"item": "book", "cents": 1200}}

// answers is a stage that ends the work with a text.
func answers(text string) redisidem.StageFunc {
	return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Finish(redisidem.JSON(201, text)), nil
	}
}

// mustNotRun is a stage that fails the test.
func (c *clause) mustNotRun(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
	c.Errorf("a stage ran that must not")
	return redisidem.Finish(redisidem.JSON(500, "ran")), nil
}

// must ends the test unless err is nil.
func (c *clause) must(what string, err error) {
	c.Helper()
	if err != nil {
		c.Fatalf("%s: %v", what, err)
	}
}

// want fails the test unless err matches the one that is wanted.
func (c *clause) want(what string, err, wanted error) {
	c.Helper()
	if !errors.Is(err, wanted) {
		c.Errorf("%s: the error is %v, want %v", what, err, wanted)
	}
}

// answered ends the test unless a key is finished with that text.
func (c *clause) answered(what string, key *redisidem.Key, err error, text string, replayed bool) {
	c.Helper()
	c.must(what, err)
	want := redisidem.JSON(201, text)
	if !key.Finished() || !same(key.Response, &want) || key.Replayed() != replayed {
		c.Fatalf("%s: the key is at %q with the answer %s, replayed: %t; want %s, replayed: %t", what, key.RecoveryPoint,
			describe(key.Response), key.Replayed(), describe(&want), replayed)
	}
}
