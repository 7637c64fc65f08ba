package console_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

func TestFindGoesToTheKey(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	mustHave(t, s.get("/find", 200), `name="id"`, `name="scope"`, `name="value"`)
	for _, query := range []url.Values{{"id": {s.ids["idle"]}}, {"scope": {"idle"}, "value": {"order-1"}}} {
		response := s.serve(httptest.NewRequest(http.MethodGet, "/find?"+query.Encode(), http.NoBody))
		if got := response.Header.Get("Location"); response.StatusCode != http.StatusSeeOther || got != "./keys/"+s.ids["idle"] {
			t.Errorf("%s: %d to %q", query, response.StatusCode, got)
		}
	}
	for query, status := range map[string]int{
		"id=x": 400, "id=" + s.svc.Scope("a").ID("b"): 404, "scope=idle&value=none": 404, "scope=&value=order-1": 400, "scope=idle": 400,
	} {
		mustHave(t, s.get("/find?"+query, status), `role="alert"`, `name="id"`)
	}
	mustHave(t, s.get("/find?scope=%22%3Cb%3E&value=none", 404), `value="&#34;&lt;b&gt;"`)
}
