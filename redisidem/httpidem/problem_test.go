package httpidem_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

func TestProblemsCanBeWrittenByTheProgram(t *testing.T) {
	t.Parallel()
	seen := &results{}
	m := newStore(t).middleware(&httpidem.Config{
		Observer: seen.observe,
		WriteProblem: func(w http.ResponseWriter, _ *http.Request, p *httpidem.Problem) {
			http.Error(w, p.Result.String(), p.Status)
		},
	})
	r := newRequest(context.Background(), `"`, "")
	w := call(m.Handler(created("")), r)
	if w.Code != http.StatusBadRequest || w.Body.String() != "malformed\n" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	var syntax *idemheader.SyntaxError
	if e := seen.last(t); e.Result != httpidem.ResultMalformed || e.Status != 400 || !errors.As(e.Err, &syntax) {
		t.Errorf("%+v", e)
	}
}
