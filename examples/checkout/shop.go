package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	_ "modernc.org/sqlite" // the driver
)

// shop is the shop's own data: carts, what is in them, and what became of them. Each change that a stage of the checkout makes
// can be made twice, since a stage can run twice.
type shop struct{ db *sql.DB }

const schema = `
CREATE TABLE IF NOT EXISTS carts (id TEXT PRIMARY KEY, payment_token TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS items (cart TEXT NOT NULL, variant TEXT NOT NULL, cents INTEGER NOT NULL, quantity INTEGER NOT NULL,
  PRIMARY KEY (cart, variant));
CREATE TABLE IF NOT EXISTS tax_lines (cart TEXT PRIMARY KEY, cents INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, cart TEXT NOT NULL UNIQUE, payment TEXT NOT NULL, cents INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS mails (event TEXT PRIMARY KEY, text TEXT NOT NULL);
`

// openShop opens the database in that file, which several processes may share, and makes what it lacks.
func openShop(ctx context.Context, file string) (*shop, error) {
	db, err := openSQLite(ctx, file, schema)
	return &shop{db}, err
}

func openSQLite(ctx context.Context, file, schema string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // SQLite has one writer anyway
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", file, err), db.Close())
	}
	return db, nil
}

func (s *shop) close() error { return s.db.Close() }

// prices are what the shop sells, in cents. The last is in the catalogue although there is none left.
var prices = map[string]int64{"book": 1900, "lamp": 4200, soldOut: 9900}

const soldOut = "unicorn"

// errUnknown says that there is no such cart or thing.
var errUnknown = errors.New("there is no such thing")

func (s *shop) createCart(ctx context.Context) (string, error) {
	id := "cart_" + uuid.NewString()
	_, err := s.db.ExecContext(ctx, "INSERT INTO carts (id) VALUES (?)", id)
	return id, err
}

func (s *shop) addItem(ctx context.Context, cart, variant string, quantity int64) error {
	cents, ok := prices[variant]
	if !ok || quantity < 1 || quantity > 1000 {
		return errUnknown
	}
	if err := s.mustExist(ctx, cart); err != nil {
		return err
	}
	_, err := s.db.ExecContext(ctx, `INSERT INTO items (cart, variant, cents, quantity) VALUES (?, ?, ?, ?)
		ON CONFLICT (cart, variant) DO UPDATE SET quantity = excluded.quantity`, cart, variant, cents, quantity)
	return err
}

func (s *shop) choosePayment(ctx context.Context, cart, token string) error {
	if err := s.mustExist(ctx, cart); err != nil {
		return err
	}
	_, err := s.db.ExecContext(ctx, "UPDATE carts SET payment_token = ? WHERE id = ?", token, cart)
	return err
}

func (s *shop) mustExist(ctx context.Context, cart string) error {
	var n int
	err := s.db.QueryRowContext(ctx, "SELECT 1 FROM carts WHERE id = ?", cart).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return errUnknown
	}
	return err
}

// total returns what is in a cart, without tax, and how it is to be paid for.
func (s *shop) total(ctx context.Context, cart string) (cents int64, token string, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT c.payment_token, COALESCE(SUM(i.cents * i.quantity), 0)
		FROM carts c LEFT JOIN items i ON i.cart = c.id WHERE c.id = ? GROUP BY c.id`, cart).Scan(&token, &cents)
	if errors.Is(err, sql.ErrNoRows) {
		err = errUnknown
	}
	return cents, token, err
}

func (s *shop) createTaxLine(ctx context.Context, cart string, cents int64) error {
	_, err := s.db.ExecContext(ctx, "INSERT INTO tax_lines (cart, cents) VALUES (?, ?) ON CONFLICT (cart) DO UPDATE SET cents = excluded.cents",
		cart, cents)
	return err
}

func (s *shop) deleteTaxLine(ctx context.Context, cart string) error {
	_, err := s.db.ExecContext(ctx, "DELETE FROM tax_lines WHERE cart = ?", cart)
	return err
}

// inStock reports whether everything in the cart is there.
func (s *shop) inStock(ctx context.Context, cart string) (bool, error) {
	var n int
	err := s.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM items WHERE cart = ? AND variant = ?", cart, soldOut).Scan(&n)
	return n == 0, err
}

// order is a completed cart.
type order struct {
	ID      string `json:"id"`
	Cart    string `json:"cart_id"`
	Payment string `json:"payment_id"`
	Cents   int64  `json:"total"`
}

// createOrder makes the order of a cart, or finds the one that an earlier run of the stage made.
func (s *shop) createOrder(ctx context.Context, cart, payment string, cents int64) (order, error) {
	_, err := s.db.ExecContext(ctx, "INSERT INTO orders (id, cart, payment, cents) VALUES (?, ?, ?, ?) ON CONFLICT (cart) DO NOTHING",
		"order_"+strings.TrimPrefix(cart, "cart_"), cart, payment, cents)
	if err != nil {
		return order{}, err
	}
	o := order{Cart: cart}
	err = s.db.QueryRowContext(ctx, "SELECT id, payment, cents FROM orders WHERE cart = ?", cart).Scan(&o.ID, &o.Payment, &o.Cents)
	return o, err
}

// sendMail stands for sending one. The same event is sent once.
func (s *shop) sendMail(ctx context.Context, event, text string) error {
	_, err := s.db.ExecContext(ctx, "INSERT INTO mails (event, text) VALUES (?, ?) ON CONFLICT (event) DO NOTHING", event, text)
	return err
}

// counts returns how many rows of each kind there are for a cart: for those who want to see that nothing happened twice.
func (s *shop) counts(ctx context.Context, cart string) (map[string]int64, error) {
	counts := make(map[string]int64)
	for name, query := range map[string]string{
		"tax_lines": "SELECT COUNT(*) FROM tax_lines WHERE cart = ?",
		"orders":    "SELECT COUNT(*) FROM orders WHERE cart = ?",
		"mails":     "SELECT COUNT(*) FROM mails WHERE text LIKE '%' || ? || '%'",
	} {
		var n int64
		if err := s.db.QueryRowContext(ctx, query, cart).Scan(&n); err != nil {
			return nil, err
		}
		counts[name] = n
	}
	return counts, nil
}
