package calldetails

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strings"
	"time"
)

// Calls lists calls that have ended, page by page as they are asked for. Errors are *Error, or the context's. One that
// is ErrUnreadable with Status 0 is about one record: the calls after it still come. Any other ends the sequence, after
// which the listing is incomplete. Every range over the sequence asks again.
func (c *Client) Calls(ctx context.Context, f Filter) iter.Seq2[Call, error] {
	return func(yield func(Call, error) bool) {
		now := time.Now()
		const what = "list calls of Exotel"
		if why, remedy := f.check(now); why != "" {
			yield(Call{}, refuse(what, why, "nothing was asked; "+remedy))
			return
		}
		l := &listing{client: c, query: f.query(now, c.loc), seen: map[string]bool{}}
		for !l.done {
			records, err := l.page(ctx)
			if err != nil {
				yield(Call{}, err)
				return
			}
			for _, r := range records {
				if !yield(c.record(l.what(), r)) {
					return
				}
			}
		}
	}
}

// record decodes one record of a page.
func (c *Client) record(what string, raw []byte) (Call, error) {
	call, err := decodeRecord(raw, c.loc)
	if err != nil {
		return Call{}, &Error{
			Kind:   ErrUnreadable,
			what:   what,
			why:    err.Error(),
			cause:  err,
			remedy: "this one record is left out; report it to Exotel",
		}
	}
	return call, nil
}

// listing walks the pages of one question.
type listing struct {
	client *Client
	query  string // of the page to ask for next
	seen   map[string]bool
	done   bool
}

func (l *listing) what() string { return fmt.Sprintf("list calls of Exotel, page %d", len(l.seen)) }

// page asks for the next page and finds out where the one after it is.
func (l *listing) page(ctx context.Context) ([]json.RawMessage, error) {
	if len(l.seen) >= l.client.maxPages {
		return nil, refuse(l.what(), "there are more pages than one listing may have", "ask for a shorter window")
	}
	l.seen[l.query] = true
	path := l.client.path("Calls.json")
	body, err := l.client.get(ctx, l.what(), path, l.query)
	if err != nil {
		return nil, err
	}
	p, err := decodePage(body)
	if err == nil {
		err = l.turn(path, p.next)
	}
	if err != nil {
		return nil, unreadable(l.what(), err)
	}
	return p.records, nil
}

// unescaped is what an address may hold as Exotel's documents write it, and a request line may not.
var unescaped = strings.NewReplacer(" ", "%20", ";", "%3B")

// turn takes the next page's address. Only its query is used, on the address that is asked anyway; one that leads
// elsewhere is an error rather than the end, since calls would be missing.
func (l *listing) turn(path, next string) error {
	if next == "" {
		l.done = true
		return nil
	}
	address, err := url.Parse(next)
	if err != nil {
		return errors.New("the address of the next page cannot be read")
	}
	at := l.client.base.ResolveReference(address)
	if at.Scheme != l.client.base.Scheme || !strings.EqualFold(at.Host, l.client.base.Host) || at.User != nil {
		return errors.New("the next page is on another host, to which the credentials are not sent")
	}
	if at.Path != path && at.Path+".json" != path {
		return errors.New("the next page is not of this account's calls")
	}
	query := unescaped.Replace(at.RawQuery)
	if l.seen[query] {
		return errors.New("the next page is one that was there before: the pages go in a circle")
	}
	l.query = query
	return nil
}
