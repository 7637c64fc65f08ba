package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/redisidem/redisidem/internal/sqltest"
)

// onEach runs a test on a database of each kind: url is empty for SQLite.
func onEach(t *testing.T, test func(t *testing.T, url string)) {
	t.Helper()
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, "")
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		test(t, sqltest.Postgres(t).PostgresURL())
	})
}

// openShops opens a shop's database so many times, as so many processes would.
func openShops(t *testing.T, url string, processes int) []*shop {
	t.Helper()
	folder := t.TempDir()
	shops := make([]*shop, processes)
	for i := range shops {
		s, err := openShop(t.Context(), url, folder)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.close(); err != nil {
				t.Error(err)
			}
		})
		shops[i] = s
	}
	return shops
}

// fillCart makes a cart with two books.
func fillCart(t *testing.T, s *shop) string {
	t.Helper()
	cart, err := s.createCart(t.Context())
	if err == nil {
		err = s.addItem(t.Context(), cart, "book", 2)
	}
	if err == nil {
		err = s.choosePayment(t.Context(), cart, tokenOK)
	}
	if err != nil {
		t.Fatal(err)
	}
	return cart
}

// hold makes a key the holder of a cart, and returns who it is then.
func hold(ctx context.Context, s *shop, cart, key string) (holder string, err error) {
	err = transact(ctx, s.db, func(tx *sql.Tx) error {
		var cents int64
		if holder, _, cents, err = s.hold(ctx, tx, cart, key); err == nil && holder == key && cents != 4522 {
			err = fmt.Errorf("the cart costs %d", cents)
		}
		return err
	})
	return holder, err
}

func TestOneKeyHoldsACart(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		shops := openShops(t, url, 4)
		cart := fillCart(t, shops[0])
		holders, errs := make([]string, len(shops)), make([]error, len(shops))
		var wg sync.WaitGroup
		for i, s := range shops {
			wg.Go(func() { holders[i], errs[i] = hold(t.Context(), s, cart, fmt.Sprint("key-", i)) })
		}
		wg.Wait()
		for i, holder := range holders {
			if errs[i] != nil || holder == "" || holder != holders[0] {
				t.Errorf("key %d: %q holds the cart, %v", i, holder, errs[i])
			}
		}
		if key, err := shops[0].holder(t.Context(), cart); err != nil || key != holders[0] {
			t.Error(key, err)
		}
		if err := shops[1].addItem(t.Context(), cart, "lamp", 1); !errors.Is(err, errCompleting) {
			t.Error(err)
		}
	})
}

func TestReleaseLeavesTheNextHolderAlone(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := openShops(t, url, 1)[0]
		cart := fillCart(t, s)
		release := func(key string) {
			t.Helper()
			if err := transact(t.Context(), s.db, func(tx *sql.Tx) error { return s.release(t.Context(), tx, cart, key) }); err != nil {
				t.Fatal(err)
			}
		}
		if holder, err := hold(t.Context(), s, cart, "first"); err != nil || holder != "first" {
			t.Fatal(holder, err)
		}
		release("first")
		if key, err := s.holder(t.Context(), cart); !errors.Is(err, errNotCompleting) {
			t.Error(key, err)
		}
		if holder, err := hold(t.Context(), s, cart, "second"); err != nil || holder != "second" {
			t.Fatal(holder, err)
		}
		release("first")
		if counts, err := s.counts(t.Context(), cart); err != nil || counts["tax_lines"] != 1 {
			t.Error("the tax line of the second key is gone:", counts, err)
		}
		if key, err := s.holder(t.Context(), cart); err != nil || key != "second" {
			t.Error(key, err)
		}
	})
}

func TestDatabaseThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "postgres://u:hidden@127.0.0.1:1/shop?sslmode=disable", "postgres://u:hidden@[shop"} {
		_, err := openShop(t.Context(), url, t.TempDir()+"/no such folder")
		if err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q: %v", url, err)
		}
	}
}
