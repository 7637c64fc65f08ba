package redisidem_test

import (
	"context"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

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
		// A permanent error is stored like any other response.
		_, err = sc.Do(ctx, "k", request, returns(redisidem.Finish(redisidem.JSON(402, "card declined"))))
		mustBe(t, err, nil)
		if key := start(t, sc, "k"); key.Response.Code != 402 {
			t.Errorf("stored is %+v", key.Response)
		}
	})
}
