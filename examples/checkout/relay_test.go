package main

import (
	"log/slog"
	"testing"

	"github.com/redisidem/redisidem/contrib/sqlidem"
)

// mails returns how many e-mails went out for a cart.
func (m *market) mails(cart string) int64 {
	m.Helper()
	counts, err := m.shop.counts(m.Context(), cart)
	if err != nil {
		m.Fatal(err)
	}
	return counts["mails"]
}

// waiting returns how many events wait in the outbox.
func (m *market) waiting() int64 {
	m.Helper()
	backlog, err := m.shop.store.Backlog(m.Context())
	if err != nil {
		m.Fatal(err)
	}
	return backlog.Events
}

func TestOrderIsMailedOnce(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		m := newMarketOn(t, url, nil)
		open := func() *sqlidem.Relay {
			r, err := newRelay(m.shop, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		ordered, declined := m.fill(tokenOK, "book"), m.fill(tokenDecline, "book")
		m.complete(ordered, "key")
		m.complete(declined, "key")
		// A relay that has died between an e-mail and the end of its event.
		var event int64
		if err := m.shop.db.QueryRowContext(t.Context(), "SELECT id FROM redisidem_outbox").Scan(&event); err != nil {
			t.Fatal(err)
		}
		if err := m.shop.sendMail(t.Context(), event, ordered, "before the crash"); err != nil {
			t.Fatal(err)
		}
		m.complete(m.fill(tokenOK, "lamp"), "key")
		first, second := open(), open()
		if n, err := first.Drain(t.Context()); err != nil || n != 2 {
			t.Errorf("%d events were published, %v", n, err)
		}
		if n, err := second.Drain(t.Context()); err != nil || n != 0 {
			t.Errorf("another relay published %d events, %v", n, err)
		}
		if m.mails(ordered) != 1 || m.mails(declined) != 0 || m.waiting() != 0 {
			t.Errorf("%d and %d e-mails, %d events are left", m.mails(ordered), m.mails(declined), m.waiting())
		}
	})
}
