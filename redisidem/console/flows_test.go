package console_test

import (
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

func TestFlowsShowVersionsOnDemand(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	page := s.get("/flows", 200)
	mustHave(t, page, `href="./dead?flow=order"`, `href="./flows?count=1"`)
	mustLack(t, page, "order/1")
	page = s.get("/flows?count=1", 200)
	mustHave(t, page, `href="./keys?flow=order%2f1"`, "without a flow", `<td data-label="Unfinished" class="n">5</td>`, `state interrupted">interrupted</span> 1</span>`)
	s.server.FlushAll()
	empty := s.site()
	mustHave(t, empty.get("/flows?count=1", 200), "No version has unfinished keys.", "No recoverable flow")
}

func TestPausesAreShown(t *testing.T) {
	t.Parallel()
	shop := newShop(t)
	s := shop.site()
	mustLack(t, s.get("/flows", 200), "Paused")
	in := redisidem.NewInspector(shop.svc)
	if err := in.Pause(t.Context(), "order/1", true, redisidem.Act{Actor: "ann", Reason: "<b>down</b>"}); err != nil {
		t.Fatal(err)
	}
	mustHave(t, s.get("/flows", 200), "order/1", "completers and clients", "ann", "&lt;b&gt;down")
	page := s.get("/audit", 200)
	mustHave(t, page, "pause with clients", `<td data-label="ID">order/1</td>`)
	mustLack(t, page, "keys/order")
}
