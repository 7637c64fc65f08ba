package console

import (
	"context"
	"encoding/base64"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// browserVariable is the environment variable that, set to 1, makes tests fail that would be
// skipped for want of a browser.
const browserVariable = "REDISIDEM_REQUIRE_BROWSER"

// browser is a tab of a browser of its own, whose requests have the credentials of one user.
type browser struct {
	*testing.T
	ctx context.Context

	mu  sync.Mutex
	log []string // warnings and errors of the browser
}

func newBrowser(t *testing.T, user, password string) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv(browserVariable) == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	ctx, cancelAllocator := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancelAllocator)
	ctx, _ = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Error(err)
		}
	})
	b := &browser{T: t, ctx: ctx}
	b.must(chromedp.Listen(ctx, func(event any) {
		if e, ok := event.(*cdplog.EventEntryAdded); ok && (e.Entry.Level == cdplog.EntryLevelWarning || e.Entry.Level == cdplog.EntryLevelError) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.log = append(b.log, e.Entry.Text+" "+e.Entry.URL)
		}
	}))
	_, err = chromedp.Call(ctx, cdplog.Enable, cdp.Empty{})
	b.must(err)
	credentials := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	_, err = chromedp.Call(ctx, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{
		Headers: network.Headers{"Authorization": "Basic " + credentials},
	})
	b.must(err)
	return b
}

func (b *browser) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatalf("the browser: %v, after %q", err, b.logged())
	}
}

// run does actions, one after the other. A page that was just loaded may still be numbering its
// elements: an action that knows its element by an old number does nothing and fails, and is done
// again.
func (b *browser) run(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	end := time.Now().Add(20 * time.Second)
	for _, action := range actions {
		err := chromedp.Do(b.ctx, action)
		for err != nil && strings.Contains(err.Error(), "node with given id") && time.Now().Before(end) {
			time.Sleep(10 * time.Millisecond)
			err = chromedp.Do(b.ctx, action)
		}
		b.must(err)
	}
}

// logged returns the warnings and errors so far, and forgets them.
func (b *browser) logged() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.log
	b.log = nil
	return all
}

// text returns the text of the page.
func (b *browser) text() string {
	b.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
	b.must(err)
	return text
}

// open opens an address and waits for an element of the page.
func (b *browser) open(address, selector string) {
	b.Helper()
	b.run(chromedp.Navigate(address), visible(selector))
}

// visible waits for an element that can be seen.
func visible(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.WaitVisible(chromedp.CSS(selector))
}

// click clicks an element and waits for the one that follows.
func (b *browser) click(selector, next string) {
	b.Helper()
	b.run(chromedp.Click(chromedp.CSS(selector)), visible(next))
}

// script runs a script on the page.
func (b *browser) script(text string) {
	b.Helper()
	_, err := chromedp.Run(b.ctx, chromedp.Evaluate[any](text))
	b.must(err)
}

// mustShow fails the test unless the page has all texts.
func (b *browser) mustShow(texts ...string) {
	b.Helper()
	page := b.text()
	for _, text := range texts {
		if !strings.Contains(page, text) {
			b.Errorf("the page has no %q:\n%s", text, page)
		}
	}
}

// tabTo presses Tab until an element has the focus.
func (b *browser) tabTo(selector string) {
	b.Helper()
	for range 80 {
		b.run(chromedp.KeyEvent(kb.Tab))
		if b.is("document.activeElement.matches(`" + selector + "`)") {
			return
		}
	}
	b.Fatalf("the keyboard does not reach %s:\n%s", selector, b.text())
}

// press presses Enter and waits for the page behind it, which has an element.
func (b *browser) press(selector string) {
	b.Helper()
	b.run(chromedp.KeyEvent(kb.Enter), visible(selector))
}

// is returns the value of an expression on the page.
func (b *browser) is(expression string) bool {
	b.Helper()
	yes, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](expression))
	b.must(err)
	return yes
}

// until waits for an expression on the page to become true.
func (b *browser) until(expression string) {
	b.Helper()
	for end := time.Now().Add(30 * time.Second); !b.is(expression); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("%s does not become true:\n%s", expression, b.text())
		}
	}
}

// look sets the size of the window and the colour scheme.
func (b *browser) look(width int64, scheme string) {
	b.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: 900, DeviceScaleFactor: 1, Mobile: width < 500,
	})
	b.must(err)
	_, err = chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	b.must(err)
}
