package console_test

import "testing"

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
