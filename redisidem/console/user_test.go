package console_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/redisidem/redisidem/redisidem/console"
)

func TestFirstOfReturnsTheFirstUser(t *testing.T) {
	t.Parallel()
	none := func(*http.Request) (console.User, bool) { return console.User{}, false }
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	if u, ok := console.FirstOf(none, as(console.RoleViewer), as(console.RoleOperator))(r); !ok || u.Role != console.RoleViewer {
		t.Errorf("%+v, %v", u, ok)
	}
	if u, ok := console.FirstOf(none)(r); ok {
		t.Errorf("%+v", u)
	}
	if u, ok := console.FirstOf()(r); ok {
		t.Errorf("%+v", u)
	}
}

func TestRolesHaveNames(t *testing.T) {
	t.Parallel()
	if got := console.RoleViewer.String() + console.RoleOperator.String() + console.Role(0).String(); got != "vieweroperatorinvalid" {
		t.Error(got)
	}
}
