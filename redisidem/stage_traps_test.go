package redisidem_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

// Traps of stages that other idempotency libraries fell into, one test for each.

func TestTrapS1PointAndResponseAreBothKept(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		r := redisidem.JSON(202, "accepted")
		key, err := sc.Do(ctx, "k", request, returns(redisidem.Outcome{RecoveryPoint: "next", Response: &r}))
		mustBe(t, err, nil)
		for _, k := range []*redisidem.Key{key, start(t, sc, "k")} {
			mustStandAt(t, k, "next", 1)
			mustHold(t, k, `"accepted"`)
			if k.Answered() {
				t.Error("a response next to a recovery point is no answer yet")
			}
		}
		// An outcome without a response keeps the earlier one.
		_, err = sc.Do(ctx, "k", request, returns(redisidem.Outcome{}))
		mustBe(t, err, nil)
		mustHold(t, start(t, sc, "k"), `"accepted"`)
	})
}

func TestTrapS2EachCombinationOfPointAndResponseIsDefined(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		r := redisidem.JSON(201, "made")
		for name, c := range map[string]struct {
			outcome  redisidem.Outcome
			point    string
			response bool
		}{
			"neither":            {redisidem.Outcome{}, redisidem.Finished, false},
			"response":           {redisidem.Outcome{Response: &r}, redisidem.Finished, true},
			"point":              {redisidem.Outcome{RecoveryPoint: "next"}, "next", false},
			"both":               {redisidem.Outcome{RecoveryPoint: "next", Response: &r}, "next", true},
			"finished":           {redisidem.Outcome{RecoveryPoint: redisidem.Finished}, redisidem.Finished, false},
			"finished, response": {redisidem.Outcome{RecoveryPoint: redisidem.Finished, Response: &r}, redisidem.Finished, true},
		} {
			key, err := sc.Do(ctx, name, request, returns(c.outcome))
			mustBe(t, err, nil)
			for _, k := range []*redisidem.Key{key, start(t, sc, name)} {
				if k.RecoveryPoint != c.point || (k.Response != nil) != c.response || k.Answered() != (c.point == redisidem.Finished) {
					t.Errorf("%s: the key is %+v", name, k)
				}
			}
		}
	})
}

func TestTrapS2InterimResponseIsNotLeftAsTheFinalAnswer(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		_, err := sc.Do(ctx, "k", request, returns(redisidem.Interim("confirm", redisidem.JSON(200, "requires more"))))
		mustBe(t, err, nil)
		_, err = sc.Do(ctx, "k", request, returns(redisidem.Outcome{}))
		mustBe(t, err, nil)
		if key := start(t, sc, "k"); !key.Finished() || key.Response != nil {
			t.Errorf("finished %v with the response %+v", key.Finished(), key.Response)
		}
	})
}

func TestTrapS3UnknownPointIsATypedError(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		_, err := sc.Do(ctx, "k", request, returns(redisidem.Advance("point of route A")))
		mustBe(t, err, nil)
		e.mustNotChange(e.client(), "route B", func() {
			_, err := drive(sc, "k", otherRequests["path"], map[string]redisidem.StageFunc{"point of route A": never(t)})
			mustBe(t, err, redisidem.ErrFingerprintMismatch)
			_, err = drive(sc, "k", request, map[string]redisidem.StageFunc{})
			mustBe(t, err, redisidem.ErrUnknownRecoveryPoint)
		})
	})
}

func TestTrapS4StageThatReturnsItsOwnPointMakesNoProgress(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		for _, o := range []redisidem.Outcome{
			redisidem.Advance(redisidem.Started),
			redisidem.Advance(redisidem.Started).WithState("cursor"),
			{RecoveryPoint: redisidem.Started, Response: &redisidem.Response{Code: 200}},
		} {
			_, err := sc.Do(ctx, "k", request, returns(o))
			mustBe(t, err, redisidem.ErrNoProgress)
		}
		if key := start(t, sc, "k"); key.Revision != 0 || key.Attempts != 3 || key.Response != nil {
			t.Errorf("the key is %+v", key)
		}
		// Whoever wants to stay says so, and the caller's loop ends there.
		key, err := sc.Do(ctx, "k", request, returns(redisidem.Interim(redisidem.Started, redisidem.JSON(202, "later"))))
		mustBe(t, err, nil)
		if !key.Answered() {
			t.Error("the loop would go on")
		}
	})
}

func TestTrapS5TwoDriversCountEachStageOnce(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		points := []string{redisidem.Started, "one", "two", "three", redisidem.Finished}
		effects := make([]atomic.Int32, len(points)-1)
		stages := make(map[string]redisidem.StageFunc)
		for i, next := range points[1:] {
			stages[points[i]] = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				effects[i].Add(1)
				return redisidem.Advance(next), nil
			}
		}
		var wg sync.WaitGroup
		for range 2 {
			sc := e.service().Scope("a").Wait(20 * time.Second)
			wg.Go(func() {
				if key, err := drive(sc, "k", request, stages); err != nil || !key.Finished() {
					t.Errorf("the key is %+v, %v", key, err)
				}
			})
		}
		wg.Wait()
		for i := range effects {
			if n := effects[i].Load(); n != 1 {
				t.Errorf("the effect of %q happened %d times", points[i], n)
			}
		}
		if key := start(t, e.service().Scope("a"), "k"); key.Revision != 4 || len(key.Journal) != 4 {
			t.Errorf("revision %d, journal %+v", key.Revision, key.Journal)
		}
	})
}

func TestTrapS6RecordIsCheckedBeforeTheCallback(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, other := e.service().Scope("a"), e.service().Scope("a")
		gone, moved, finished := start(t, sc, "gone"), start(t, sc, "moved"), start(t, sc, "finished")
		mustBe(t, other.Delete(ctx, gone), nil)
		_, err := other.WorkStage(ctx, moved, returns(redisidem.Advance("next")))
		mustBe(t, err, nil)
		_, err = other.WorkStage(ctx, finished, finish("done"))
		mustBe(t, err, nil)

		_, err = sc.WorkStage(ctx, gone, never(t))
		mustBe(t, err, redisidem.ErrNotFound)
		key, err := sc.WorkStage(ctx, moved, never(t))
		mustBe(t, err, nil)
		mustStandAt(t, key, "next", 1)
		key, err = sc.WorkStage(ctx, finished, never(t))
		mustBe(t, err, nil)
		mustHold(t, key, `"done"`)
		e.mustBeTidy(e.client())
	})
}

func TestTrapS6RecordIsCheckedAgainInTheCommit(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, raw := e.service().Scope("a"), e.client()
		_, err := sc.Do(ctx, "gone", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			record, lock := e.place(st.Key())
			for _, k := range []string{record, lock} {
				mustBe(t, raw.Del(ctx, k).Err(), nil)
			}
			return redisidem.Outcome{}, nil
		})
		mustBe(t, err, redisidem.ErrOutcomeUnknown)
		if left := e.keys(raw); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
		_, err = sc.Do(ctx, "moved", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			lapse(t, e, raw, st.Key())
			_, err := sc.Update(ctx, st.Key(), redisidem.Finish(redisidem.JSON(200, "by hand")))
			mustBe(t, err, nil)
			return redisidem.Finish(redisidem.JSON(200, "by the stage")), nil
		})
		mustBe(t, err, redisidem.ErrFenced)
		mustHold(t, start(t, sc, "moved"), `"by hand"`)
	})
}

func TestTrapS7NoWriteBringsAnExpiredKeyBack(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, raw := e.service().Scope("a"), e.client()
		for name, write := range map[string]func(key *redisidem.Key, lease *redisidem.Lease) error{
			"Update": func(key *redisidem.Key, _ *redisidem.Lease) error {
				_, err := sc.Update(ctx, key, redisidem.Advance("next"))
				if !errors.Is(err, redisidem.ErrNotFound) {
					t.Errorf("Update: %v", err)
				}
				return nil
			},
			"Unlock": func(key *redisidem.Key, _ *redisidem.Lease) error {
				if err := sc.Unlock(ctx, key.Value); !errors.Is(err, redisidem.ErrNotFound) {
					t.Errorf("Unlock: %v", err)
				}
				return nil
			},
			"Delete": func(key *redisidem.Key, _ *redisidem.Lease) error { return sc.Delete(ctx, key) },
			"Renew": func(_ *redisidem.Key, lease *redisidem.Lease) error {
				if err := lease.Renew(ctx); !errors.Is(err, redisidem.ErrLeaseLost) {
					t.Errorf("Renew: %v", err)
				}
				return nil
			},
			"CommitKeep": func(_ *redisidem.Key, lease *redisidem.Lease) error {
				if _, _, err := lease.CommitKeep(ctx, redisidem.Advance("next")); !errors.Is(err, redisidem.ErrOutcomeUnknown) {
					t.Errorf("CommitKeep: %v", err)
				}
				return nil
			},
			"Abandon": func(_ *redisidem.Key, lease *redisidem.Lease) error { return lease.Abandon(ctx) },
		} {
			lease := locked(t, sc, name)
			record, lock := e.place(lease.Key())
			for _, k := range []string{record, lock} {
				mustBe(t, raw.Del(ctx, k).Err(), nil)
			}
			mustBe(t, write(lease.Key(), lease), nil)
			if left := e.keys(raw); len(left) != 0 {
				t.Errorf("%s made %v", name, left)
			}
			_ = lease.Abandon(ctx)
		}
	})
}

func TestTrapS8CompletionKeepsTheFingerprint(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		for _, o := range []redisidem.Outcome{
			redisidem.Advance("next"), redisidem.Interim("confirm", redisidem.JSON(202, "")), redisidem.Finish(redisidem.JSON(200, "done")),
		} {
			_, err := sc.Do(ctx, "k", request, returns(o))
			mustBe(t, err, nil)
			start(t, sc, "k")
			_, err = sc.InitializeRequest(ctx, "k", otherRequests["params"])
			mustBe(t, err, redisidem.ErrFingerprintMismatch)
		}
	})
}

func TestTrapS9EveryPathChecksTheRequest(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc := e.service()
		sc := svc.Scope("a")
		lease := locked(t, sc, "in flight")
		start(t, sc, "at rest")
		_, err := sc.Do(ctx, "finished", request, finish("done"))
		mustBe(t, err, nil)
		other := otherRequests["params"]
		for _, value := range []string{"in flight", "at rest", "finished"} {
			for path, try := range map[string]func() error{
				"InitializeRequest": func() error { _, err := sc.InitializeRequest(ctx, value, other); return err },
				"Scope.Do":          func() error { _, err := sc.Do(ctx, value, other, never(t)); return err },
				"a waiter":          func() error { _, err := sc.Wait(time.Hour).Do(ctx, value, other, never(t)); return err },
				"Do": func() error {
					_, _, err := redisidem.Do(ctx, sc, value, other, func(context.Context, *redisidem.Stage) (int, error) {
						t.Error("the callback ran")
						return 0, nil
					})
					return err
				},
			} {
				if err := try(); !errors.Is(err, redisidem.ErrFingerprintMismatch) {
					t.Errorf("%s of a key %s: %v", path, value, err)
				}
			}
		}
		// A view of a record that was made again, for another request, since.
		seen := start(t, sc, "at rest")
		mustBe(t, sc.Delete(ctx, seen), nil)
		_, err = sc.InitializeRequest(ctx, "at rest", other)
		mustBe(t, err, nil)
		_, err = sc.WorkStage(ctx, seen, never(t))
		mustBe(t, err, redisidem.ErrFingerprintMismatch)
		mustBe(t, lease.Abandon(ctx), nil)
	})
}

func TestTrapS10MismatchComesBeforeLocked(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		lease := locked(t, sc, "k")
		for what, other := range otherRequests {
			_, err := sc.Do(ctx, "k", other, never(t))
			if !errors.Is(err, redisidem.ErrFingerprintMismatch) || errors.Is(err, redisidem.ErrLocked) {
				t.Errorf("another %s: %v", what, err)
			}
		}
		_, err := sc.Do(ctx, "k", request, never(t))
		mustBe(t, err, redisidem.ErrLocked)
		mustBe(t, lease.Abandon(ctx), nil)
	})
}

func TestTrapS12EmptyStateIsAValue(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		look := func(value string) (stored []byte, err error) {
			_, workErr := sc.Do(ctx, value, request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				err = st.State(&stored)
				return redisidem.Outcome{}, nil
			})
			mustBe(t, workErr, nil)
			return stored, err
		}
		for i, c := range []struct {
			state any
			want  string
		}{{nil, "null"}, {0, "0"}, {false, "false"}, {"", `""`}, {[]int{}, "[]"}, {struct{}{}, "{}"}, {[]byte{}, ""}, {[]byte(nil), ""}} {
			value := fmt.Sprint(i)
			_, err := sc.Do(ctx, value, request, returns(redisidem.Advance("next").WithState(c.state)))
			mustBe(t, err, nil)
			if got, err := look(value); err != nil || string(got) != c.want {
				t.Errorf("%#v came back as %q, %v", c.state, got, err)
			}
		}
		_, err := look("none")
		mustBe(t, err, redisidem.ErrNoState)
	})
}

func TestTrapS13BytesComeBackAsTheyWent(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		for i, text := range []string{
			"12345678901234567890", "[]", "{}", "[[],{}]", "1e400", "-0", " { \"b\":1, \"a\" : 2 } ", "\x00\xff\xfe\r\n$5\r\n", "",
		} {
			value, req := fmt.Sprint(i), request
			req.Params = []byte(text)
			_, err := sc.Do(ctx, value, req, returns(redisidem.Advance("next").WithState([]byte(text))))
			mustBe(t, err, nil)
			_, err = sc.Do(ctx, value, req, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				var state []byte
				if err := st.State(&state); err != nil || string(state) != text {
					t.Errorf("the state %q came back as %q, %v", text, state, err)
				}
				return redisidem.Finish(redisidem.Response{Code: 200, Body: state}), nil
			})
			mustBe(t, err, nil)
			key, err := sc.InitializeRequest(ctx, value, req)
			mustBe(t, err, nil)
			if key.Response == nil || string(key.Response.Body) != text || !bytes.Equal(key.Params, []byte(text)) {
				t.Errorf("%q came back as the params %q and the response %+v", text, key.Params, key.Response)
			}
		}
	})
}

func TestTrapS14PointOfANewerProgramIsNotPoisoned(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		_, err := sc.Do(ctx, "k", request, returns(redisidem.Advance("new in version 2").WithState(1)))
		mustBe(t, err, nil)
		e.mustNotChange(e.client(), "a program that does not know the point", func() {
			_, err := drive(sc, "k", request, map[string]redisidem.StageFunc{redisidem.Started: never(t)})
			mustBe(t, err, redisidem.ErrUnknownRecoveryPoint)
		})
		_, _, err = redisidem.Do(ctx, sc, "k", request, func(context.Context, *redisidem.Stage) (int, error) {
			t.Error("the callback ran")
			return 0, nil
		})
		mustBe(t, err, redisidem.ErrUnknownRecoveryPoint)
		mustStandAt(t, start(t, sc, "k"), "new in version 2", 1)
		key, err := drive(sc, "k", request, map[string]redisidem.StageFunc{"new in version 2": finish("done")})
		mustBe(t, err, nil)
		mustHold(t, key, `"done"`)
		e.mustBeTidy(e.client())
	})
}

func TestTrapS15CallbackErrorKeepsThePoint(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		_, err := sc.Do(ctx, "k", request, returns(redisidem.Advance("next").WithState("kept")))
		mustBe(t, err, nil)
		for i := range 3 {
			_, err := sc.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				if st.Attempt() != i+1 {
					t.Errorf("attempt %d, want %d", st.Attempt(), i+1)
				}
				return redisidem.Finish(redisidem.JSON(200, "not stored")).WithState("lost"), errUpstream
			})
			if err != errUpstream { //nolint:errorlint // as it is, not wrapped
				t.Errorf("error is %#v", err)
			}
			key := start(t, sc, "k")
			mustStandAt(t, key, "next", 1)
			if key.Response != nil || key.Attempts != i+2 {
				t.Errorf("the key is %+v", key)
			}
		}
		// A permanent error is an answer like any other.
		_, err = sc.Do(ctx, "k", request, returns(redisidem.Finish(redisidem.JSON(402, "card declined"))))
		mustBe(t, err, nil)
		if key := start(t, sc, "k"); key.Response.Code != 402 {
			t.Errorf("stored is %+v", key.Response)
		}
	})
}

func TestTrapS16PanicPassesThroughAndStoresNothing(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		bug := &struct{ name string }{"a bug"}
		for name, c := range map[string]struct {
			end  func()
			want any
		}{"panic": {func() { panic(bug) }, bug}, "runtime.Goexit": {runtime.Goexit, nil}} {
			start(t, sc, name)
			got := make(chan any, 1)
			returned := false
			go func() {
				defer func() { got <- recover() }()
				_, _ = sc.Do(ctx, name, request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					c.end()
					return redisidem.Outcome{}, nil
				})
				returned = true
			}()
			if value := <-got; value != c.want || returned {
				t.Errorf("%s: recovered %v, returned %v", name, value, returned)
			}
			key := start(t, sc, name)
			mustStandAt(t, key, redisidem.Started, 0)
			if key.Attempts != 1 || key.Response != nil || !key.LockedAt.IsZero() {
				t.Errorf("%s: the key is %+v", name, key)
			}
		}
	})
}

func TestTrapS17NothingIsWrittenToADamagedRecord(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, raw := e.service().Scope("a"), e.client()
		for field, word := range map[string]int{"version": controlVersion, "revision": controlRevision, "fence": controlFence} {
			key := start(t, sc, field)
			record, _ := e.place(key)
			mustBe(t, setControl(raw, record, word, "damaged"), nil)
			e.mustNotChange(raw, field, func() {
				for what, write := range map[string]func() error{
					"WorkStage": func() error { _, err := sc.WorkStage(ctx, key, never(t)); return err },
					"Do":        func() error { _, err := sc.Do(ctx, field, request, never(t)); return err },
					"Update":    func() error { _, err := sc.Update(ctx, key, redisidem.Advance("next")); return err },
				} {
					if err := write(); !errors.Is(err, redisidem.ErrDamaged) {
						t.Errorf("%s with a damaged %s: %v", what, field, err)
					}
				}
			})
		}
	})
}

func TestTrapS18LostReplyHasNoSecondEffect(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc, w := e.wired()
		sc := svc.Scope("a")
		lose := func(s *lua.Script) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.lose = s
		}
		wasLost := func(what string) {
			t.Helper()
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.lose != nil {
				t.Errorf("no reply of %s was lost", what)
			}
		}
		lose(lua.Create)
		key := start(t, sc, "k")
		wasLost("create")
		runs := 0
		for i, s := range []*lua.Script{lua.Claim, lua.Commit} {
			lose(s)
			var err error
			key, err = sc.WorkStage(ctx, key, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				runs++
				if st.Attempt() != 1 {
					t.Errorf("attempt %d", st.Attempt())
				}
				return redisidem.Advance(fmt.Sprint("after ", s.Name)), nil
			})
			mustBe(t, err, nil)
			wasLost(s.Name)
			mustStandAt(t, start(t, sc, "k"), "after "+s.Name, int64(i+1))
		}
		lose(lua.Update)
		key, err := sc.Update(ctx, key, redisidem.Advance("by hand"))
		mustBe(t, err, nil)
		wasLost("update")
		lease := locked(t, sc, "k")
		lose(lua.Abandon)
		mustBe(t, lease.Abandon(ctx), nil)
		wasLost("abandon")
		fresh := start(t, sc, "k")
		mustStandAt(t, fresh, "by hand", 3)
		if runs != 2 || fresh.Attempts != 3 || len(fresh.Journal) != 3 {
			t.Errorf("%d runs, %d attempts, journal %+v", runs, fresh.Attempts, fresh.Journal)
		}
		lose(lua.Delete)
		mustBe(t, sc.Delete(ctx, key), nil)
		wasLost("delete")
		_, err = sc.Retrieve(ctx, "k")
		mustBe(t, err, redisidem.ErrNotFound)
		e.mustBeTidy(e.client())
	})
}
