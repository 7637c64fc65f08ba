// Package console uses the console as operators do, in a real browser.
package console

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/rung"
)

var screenshots = flag.String("screenshots", "", "the folder for pictures of all pages; none without")

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	leak.Main(m)
}

// quiet discards the log of go-redis, which writes about a server that is starting.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// TestOperatorResolvesAStuckKey finds an order whose payment is unknown, reads its journal, and
// gives it its answer, with the keyboard alone. The client's retry gets this answer.
func TestOperatorResolvesAStuckKey(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	b := newBrowser(t, "ann", "ann-s-password-1234")
	if response, _ := s.order("order-1"); response.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("the order's status is %d", response.StatusCode)
	}
	id := s.svc.Scope("acme").ID("order-1")

	b.open(s.URL+"/ops/", "h1")
	b.mustShow("ann (operator)", "May need a decision")
	b.tabTo(`a[href="./keys?state=interrupted"]`)
	b.press("table.keys")
	b.mustShow(id, "acme", "order-1", "checkout/2")
	b.tabTo("a.id")
	b.press(".timeline")
	b.mustShow("what the last attempt did is unknown", "commit of started", "by shop-7f9c", "attempt 1", "stock_reserved, revision 1", "POST /orders",
		"attempt 1 by shop-7f9c: ", "the provider is away")
	b.tabTo(`form[action$="acts/resolve"] button`)
	b.press("form.confirm")
	b.mustShow("Resolve 1 key?", id, "This cannot be changed later")
	b.run(
		chromedp.SetValue(chromedp.CSS("input[name=status]"), "201"),
		chromedp.SetValue(chromedp.CSS("textarea[name=body]"), `{"order":1,"paid":true}`),
		chromedp.Focus(chromedp.CSS("input[name=reason]")),
		chromedp.KeyEvent("the provider says paid, ticket 4711"),
	)
	b.tabTo("form.confirm button")
	b.press(".notice.good")
	b.mustShow("The key was resolved", "finished", "commit by hand at stock_reserved", "201")

	response, body := s.order("order-1")
	if response.StatusCode != http.StatusCreated || body != `{"order":1,"paid":true}` || response.Header.Get("Idempotency-Replayed") != "true" ||
		response.Header.Get("Content-Type") != "application/json" {
		t.Errorf("the retry gets %d %v %s", response.StatusCode, response.Header, body)
	}
	if n := s.charges.Load(); n != 1 {
		t.Errorf("there were %d payments", n)
	}
	b.tabTo(".notice a")
	b.press("table.audit")
	b.mustShow("ann", "resolve", "done", id, "the provider says paid, ticket 4711")
	if got := b.logged(); len(got) > 0 {
		t.Errorf("the browser complains: %q", got)
	}
	rung.Figure(t, "console", "a stuck key was found, read, resolved and replayed in a browser")
}

// TestOperatorPausesAFlowAndCancelsAKey does both with the keyboard, and resumes the flow.
func TestOperatorPausesAFlowAndCancelsAKey(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	b := newBrowser(t, "ann", "ann-s-password-1234")
	s.order("order-1")
	giveReason := func(reason string) {
		b.run(chromedp.Focus(chromedp.CSS("input[name=reason]")), chromedp.KeyEvent(reason))
	}
	in := redisidem.NewInspector(s.svc)

	b.open(s.URL+"/ops/flows", "h1")
	b.tabTo(`a[href="./flows/pause"]`)
	b.press("input[name=flow]")
	b.run(chromedp.Focus(chromedp.CSS("input[name=flow]")), chromedp.KeyEvent("checkout/2"))
	b.press("form.confirm")
	b.mustShow("Pause checkout/2?", "Completers begin no run")
	giveReason("ticket 4712")
	b.tabTo("form.confirm button")
	b.press(".notice.good")
	b.mustShow("The flow was paused.", "checkout/2", "ticket 4712")
	if pauses, err := in.Pauses(t.Context()); err != nil || len(pauses) != 1 || pauses[0].Flow != "checkout/2" || pauses[0].Actor != "ann" {
		t.Errorf("the pauses are %+v, %v", pauses, err)
	}
	b.tabTo(`a[href^="./flows/resume"]`)
	b.press("form.confirm")
	giveReason("it is back")
	b.press(".notice.good")
	b.mustShow("The flow was resumed.")
	if pauses, err := in.Pauses(t.Context()); err != nil || len(pauses) != 0 {
		t.Errorf("the pauses are %+v, %v", pauses, err)
	}

	b.open(s.URL+"/ops/keys/"+s.svc.Scope("acme").ID("order-1"), ".timeline")
	b.tabTo(`form[action$="acts/cancel"] button`)
	b.press("form.confirm")
	b.mustShow("Cancel 1 key?", "committed stages are undone")
	giveReason("the customer withdraws")
	b.tabTo("form.confirm button")
	b.press(".notice.good")
	b.mustShow("The key was canceled.", "Canceled")
	if response, body := s.order("order-1"); response.StatusCode/100 == 2 || s.charges.Load() != 1 {
		t.Errorf("the retry gets %d %s, after %d payments", response.StatusCode, body, s.charges.Load())
	}
	b.open(s.URL+"/ops/audit", "table.audit")
	b.mustShow("pause", "resume", "cancel", "the customer withdraws")
	if got := b.logged(); len(got) > 0 {
		t.Errorf("the browser complains: %q", got)
	}
}

func TestViewerCannotAct(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.order("order-1")
	id := s.svc.Scope("acme").ID("order-1")
	b := newBrowser(t, "bob", "bob-s-password-1234")
	b.open(s.URL+"/ops/keys/"+id, ".timeline")
	b.mustShow("bob (viewer)", "stock_reserved")
	if b.is(`document.querySelector("form[method=post], button") !== null`) {
		t.Errorf("a viewer has a button:\n%s", b.text())
	}
	// The form that an operator would have.
	b.script(fmt.Sprintf(`{
		const form = document.createElement("form");
		form.method = "post"; form.action = "../acts/delete";
		for (const [name, value] of Object.entries({target: "id=%s&seen=0", confirmed: "yes", reason: "trick"})) {
			const input = document.createElement("input");
			input.name = name; input.value = value;
			form.append(input);
		}
		document.body.append(form);
		form.submit();
	}`, id))
	b.run(visible(".notice.bad"))
	b.mustShow("Only operators may act")
	s.mustBeUntouched("acme", "order-1")
}

// mustBeUntouched fails the test unless a key is interrupted and the audit empty.
func (s *shop) mustBeUntouched(scope, value string) {
	s.Helper()
	in := redisidem.NewInspector(s.svc)
	k, err := in.Get(s.Context(), scope, value)
	s.must(err)
	entries, err := in.Audit(s.Context(), time.Time{}, time.Time{})
	s.must(err)
	if k.State != redisidem.KeyInterrupted || len(entries) != 0 {
		s.Errorf("the key is %s, the audit %+v", k.State, entries)
	}
}

// TestOtherSitesCannotUseTheConsole has an operator open a page of another site, which sends a form
// to the console with the operator's credentials, and shows the console in a frame.
func TestOtherSitesCannotUseTheConsole(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.order("order-1")
	in := redisidem.NewInspector(s.svc)
	k, err := in.Get(t.Context(), "acme", "order-1")
	s.must(err)
	seen := fmt.Sprintf("%d %d %d", k.Revision, k.CreatedAt.UnixMicro(), k.LockedAt.UnixMicro())
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if r.URL.Path == "/frame" {
			_, _ = fmt.Fprintf(w, `<h1>frame</h1><iframe src="%s/ops/"></iframe>`, s.URL)
			return
		}
		_, _ = fmt.Fprintf(w, `<h1>form</h1><form method="post" action="%s/ops/acts/delete"><input name="target" value="id=%s&amp;seen=%s">
			<input name="confirmed" value="yes"><input name="reason" value="trick"><button>You have won</button></form>`, s.URL, k.ID, seen)
	}))
	defer evil.Close()
	b := newBrowser(t, "ann", "ann-s-password-1234")
	b.open(evil.URL+"/form", "button")
	b.click("button", ".notice.bad")
	b.mustShow("page of another site")
	s.mustBeUntouched("acme", "order-1")
	b.logged()
	b.open(evil.URL+"/frame", "h1")
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if got := strings.Join(b.logged(), "\n"); strings.Contains(got, "frame-ancestors") {
			break
		} else if time.Now().After(end) {
			t.Fatalf("the frame is not refused: %s", got)
		}
	}
	// The same form from the console's own page is accepted: nothing else has refused it.
	b.open(s.URL+"/ops/keys/"+k.ID, ".timeline")
	b.click(`form[action$="acts/delete"] button`, "form.confirm")
	b.run(chromedp.SendKeys(chromedp.CSS("input[name=reason]"), "test"))
	b.click("form.confirm button", ".notice.good")
	b.mustShow("1 key deleted")
}

// TestPolicyStopsInjectedContent puts into the page what an attacker would.
func TestPolicyStopsInjectedContent(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	fetched := make(chan string, 10)
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fetched <- r.URL.Path }))
	defer evil.Close()
	b := newBrowser(t, "ann", "ann-s-password-1234")
	b.open(s.URL+"/ops/find", "h1")
	if got := b.logged(); len(got) > 0 {
		t.Errorf("the page itself breaks its policy: %q", got)
	}
	b.script(fmt.Sprintf(`
		window.broken = [];
		document.addEventListener("securitypolicyviolation", (e) => broken.push(e.effectiveDirective));
		{
			const script = document.createElement("script"); script.textContent = "window.ran = true"; document.body.append(script);
			const other = document.createElement("script"); other.src = "%[1]s/script"; document.body.append(other);
			const image = document.createElement("img"); image.src = "%[1]s/image"; document.body.append(image);
			const box = document.createElement("div"); box.innerHTML = '<b style="color:red" onclick="ran = true">x</b>'; document.body.append(box);
			const frame = document.createElement("iframe"); frame.src = "%[1]s/frame"; document.body.append(frame);
			fetch("%[1]s/fetch").catch(() => {});
			const form = document.createElement("form"); form.action = "%[1]s/form"; document.body.append(form); form.submit();
			box.firstChild.click();
		}`, evil.URL))
	for _, directive := range []string{"script-src-elem", "script-src-attr", "style-src-attr", "img-src", "frame-src", "connect-src", "form-action"} {
		b.until(fmt.Sprintf("broken.includes(%q)", directive))
	}
	if b.is("window.ran === true") {
		t.Error("an injected script ran")
	}
	select {
	case path := <-fetched:
		t.Errorf("the page sent a request for %s to another site", path)
	default:
	}
}

func TestOverviewIsLiveUntilItIsPaused(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	b := newBrowser(t, "bob", "bob-s-password-1234")
	b.open(s.URL+"/ops/", "#pause")
	has := func(n int) string {
		return fmt.Sprintf(`document.querySelector(".sum [data-label=Keys]").textContent === "%d"`, n)
	}
	b.until(has(0))
	s.order("order-1")
	b.until(has(1))
	b.click("#pause", "#pause")
	b.until(`document.getElementById("pause").textContent === "Resume"`)
	for end := time.Now().Add(20 * time.Second); s.watchers.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the page that is paused has a stream")
		}
	}
	s.order("order-2")
	if !b.is(has(1)) {
		t.Errorf("the page that is paused changes:\n%s", b.text())
	}
	b.click("#pause", "#pause")
	b.until(has(2))
}

// TestPagesFitEachScreen looks at each page in each size and colour scheme. No page is wider than
// the screen.
func TestPagesFitEachScreen(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.fill()
	s.order("order-1")
	stuck := s.svc.Scope("acme").ID("order-1")
	b := newBrowser(t, "ann", "ann-s-password-1234")
	in := redisidem.NewInspector(s.svc)
	for i, act := range []string{"payment confirmed by phone, ticket 4711", "customer asked"} {
		k, err := in.Get(t.Context(), fmt.Sprint("tenant-", i), fmt.Sprint("order-", i))
		s.must(err)
		s.must(in.AuditRead(t.Context(), k, redisidem.Act{Actor: "ann", Reason: act}))
	}
	s.must(in.Pause(t.Context(), "refund", true, redisidem.Act{Actor: "ann", Reason: "the provider of refunds is down, ticket 4712"}))
	open := func(path, selector string) { b.open(s.URL+"/ops/"+path, selector) }
	giveReason := func() { b.run(chromedp.SendKeys(chromedp.CSS("input[name=reason]"), "test")) }
	pages := map[string]func(){
		"overview": func() { open("", "#process") },
		"find":     func() { open("find?id=x", "form") },
		"keys":     func() { open("keys", "table.keys") },
		"keys-bad": func() { open("keys?older=x&state=idle", ".notice.bad") },
		"key":      func() { open("keys/"+stuck, ".timeline") },
		"finished": func() { open("keys/"+s.svc.Scope("tenant-0").ID("order-0"), ".timeline") },
		"broken":   func() { open("keys/"+s.svc.Scope("unreadable").ID("0193c7d2-5b1e-7c3a-9d4f-000000000000"), ".notice") },
		"dead":     func() { open("dead", "table.keys") },
		"flows":    func() { open("flows?count=1", "table") },
		"audit":    func() { open("audit", "table.audit") },
		"none":     func() { open("none", ".notice.bad") },
		"confirm": func() {
			open("keys/"+stuck, ".timeline")
			b.click(`form[action$="acts/resolve"] button`, "form.confirm")
		},
		"bulk": func() {
			open("dead", "table.keys")
			b.click("button[name=all]", "form.confirm")
		},
		"values": func() {
			open("keys/"+s.svc.Scope("tenant-1").ID("order-1"), ".timeline")
			b.click(`form[action$="acts/read"] button`, "form.confirm")
			giveReason()
			b.click("form.confirm button", "pre")
		},
		"cancel": func() {
			open("keys/"+stuck, ".timeline")
			b.click(`form[action$="acts/cancel"] button`, "form.confirm")
		},
		"refused": func() { // the keys are in flight
			open("keys?state=in-flight", "table.keys")
			b.click(`button[name=all][formaction$="delete"]`, "form.confirm")
			giveReason()
			b.click("form.confirm button", ".notice.bad")
		},
		"pause":      func() { open("flows/pause", "form") },
		"pause-flow": func() { open("flows/pause?flow=refund", "form.confirm") },
		"resume":     func() { open("flows/resume?flow=refund", "form.confirm") },
		"purge":      func() { open("purge?scope=tenant-3", "form.filter") },
		"purge-confirm": func() {
			open("purge?scope=tenant-3", "form.filter")
			b.click("form.filter button", "form.confirm")
		},
		"purged": func() {
			open("purge?scope=tenant-without-keys", "form.filter")
			b.click("form.filter button", "form.confirm")
			giveReason()
			b.click("form.confirm button", ".notice.good")
		},
	}
	for _, width := range []int64{360, 1600} {
		for _, scheme := range []string{"light", "dark"} {
			b.look(width, scheme)
			for name, visit := range pages {
				visit()
				if !b.is("document.documentElement.scrollWidth <= innerWidth") {
					t.Errorf("%s is wider than %d", name, width)
				}
				if *screenshots != "" {
					picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
					b.must(err)
					file := filepath.Join(*screenshots, fmt.Sprintf("%s-%d-%s.png", name, width, scheme))
					s.must(os.WriteFile(file, picture, 0o600))
				}
			}
		}
	}
	problems := slices.DeleteFunc(b.logged(), func(text string) bool { return strings.Contains(text, "the server responded with a status of 40") })
	if len(problems) > 0 {
		t.Errorf("the browser complains: %q", problems)
	}
}
