package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
)

// ledgerEntry is what the simulator knows of a call, for a later comparison.
type ledgerEntry struct {
	CallSID   string `json:"callSID"`
	SourceURL string `json:"sourceURL"`
	Path      string `json:"path"`
	Size      int64  `json:"size"`
	SHA256    string `json:"sha256"`
	Status    int    `json:"status"`
	Attempts  int    `json:"attempts"`
}

type callOptions struct {
	tenant, webhookURL, secretFile, account, recordings, spelling, event, output string
	calls, concurrency, replay                                                   int
	size                                                                         int64
	wait                                                                         time.Duration
}

func newSimulateCallCommand() *cobra.Command {
	var o callOptions
	cmd := &cobra.Command{
		Use:   "call",
		Short: "Place calls: send the webhooks that Exotel would",
		Args:  cli.NoArgs,
		Long: "Sends an answered and a terminal StatusCallback for each call, or the events that --event names, " +
			"proven and repeated as Exotel does.\n" +
			"With --tenant the address and what the Tenant's verifiers ask for are read from the cluster of the " +
			"current kubeconfig:\n" +
			"the first secret of each verifier is used. With --secret-file the events are signed with HMAC-SHA1.",
		RunE: func(cmd *cobra.Command, _ []string) error { return placeCalls(cmd, o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.tenant, "tenant", "", "namespace/name of a Tenant to read address and secrets of")
	flags.StringVar(&o.webhookURL, "webhook-url", "", "address of the webhook, for the event that is sent")
	flags.StringVar(&o.secretFile, "secret-file", "", "file with the signing secret")
	flags.StringVar(&o.account, "account-sid", "simulated", "Exotel account in the recordings' URLs and in leg events")
	flags.StringVar(
		&o.recordings, "recordings-base-url", "", "where the recordings are served; without it the calls have none",
	)
	flags.StringVar(
		&o.event,
		"event",
		eventStatus,
		"status (two StatusCallbacks), passthru, leg, or stream (a passthru after an audio stream)",
	)
	flags.StringVar(&o.spelling, "spelling", "mixed", "mixed, multipart, form, json or query, of a StatusCallback")
	flags.IntVar(&o.replay, "replay", 1, "how often each event is sent")
	flags.StringVar(&o.output, "output", "", "file to write a ledger of the calls to, for simulate verify")
	flags.IntVar(&o.calls, "calls", 1, "how many calls")
	flags.IntVar(&o.concurrency, "concurrency", 4, "number at the same time")
	flags.Int64Var(
		&o.size, "size", 64<<10, "bytes of the smallest recording; each is a little larger than the one before",
	)
	flags.DurationVar(&o.wait, "retry-interval", 2*time.Second, "wait before a second attempt; Exotel's own is 5m")
	return cmd
}

// check returns an error for counts that make no sense together.
func (o callOptions) check() error {
	if o.calls < 0 || o.size < 0 {
		return errors.New("--calls and --size cannot be negative")
	}
	if o.replay < 1 {
		return errors.New("--replay must be at least 1: the event itself counts")
	}
	if _, err := eventsOf(o.event, exotelsim.Call{}, exotelsim.Form); err != nil {
		return err
	}
	_, err := spellingOf(o.spelling, 0)
	return err
}

// placeCalls places the calls concurrently, prints a summary and writes the ledger.
func placeCalls(cmd *cobra.Command, o callOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	to, err := findTarget(cmd.Context(), o)
	if err != nil {
		return err
	}
	entries := make([]ledgerEntry, o.calls)
	var done atomic.Int64
	group, ctx := errgroup.WithContext(cmd.Context())
	group.SetLimit(max(1, o.concurrency))
	for i := range entries {
		group.Go(func() error {
			var err error
			entries[i], err = placeCall(ctx, o, to, i)
			if err != nil {
				return fmt.Errorf("call %s: %w", entries[i].CallSID, err)
			}
			done.Add(1)
			return nil
		})
	}
	err = group.Wait()
	cmd.Printf("%d of %d calls were accepted by %s\n", done.Load(), o.calls, to.url)
	if err != nil {
		return err
	}
	return writeLedger(o.output, entries)
}

// target is where the events go, and what they carry to be taken.
type target struct {
	url    string
	proofs []exotelsim.Proof
	zone   *time.Location // in which times are written; nil: Exotel's own
	hint   string         // what a refusal may come from that is not in the sender's hands
}

// findTarget returns where the webhooks go and how they are proven: from the Tenant, or from URL and secret.
func findTarget(ctx context.Context, o callOptions) (target, error) {
	if o.tenant != "" {
		return lookUpTenant(ctx, o.tenant, o.event)
	}
	if o.webhookURL == "" || o.secretFile == "" {
		return target{}, errors.New("nowhere to send to: give --tenant, or --webhook-url and --secret-file")
	}
	if _, err := url.Parse(o.webhookURL); err != nil {
		return target{}, errors.New("--webhook-url is not a URL")
	}
	secret, err := readLine(o.secretFile)
	return target{url: o.webhookURL, proofs: []exotelsim.Proof{exotelsim.Signature{Secret: secret}.Proof()}}, err
}

// placeCall sends the events of one call, each as often as --replay says, and returns its line of the ledger.
func placeCall(ctx context.Context, o callOptions, to target, i int) (ledgerEntry, error) {
	how, err := spellingOf(o.spelling, i)
	if err != nil {
		return ledgerEntry{}, err
	}
	sid := make([]byte, 16)
	_, _ = rand.Read(sid) // never fails
	e := ledgerEntry{CallSID: hex.EncodeToString(sid), Size: o.size + int64(i)*1021}
	now := time.Now()
	call := exotelsim.Call{
		SID:     e.CallSID,
		From:    "09876543210",
		To:      "09123456789",
		Started: now.Add(-time.Minute),
		Ended:   now,
		Account: o.account,
		Zone:    to.zone,
	}
	if o.recordings != "" && o.event != eventLeg {
		e.SourceURL = exotelsim.RecordingURL(o.recordings, o.account, e.CallSID, e.Size)
		e.Path = fmt.Sprintf("/exotelrecordings/%s/%s.mp3", o.account, e.CallSID)
		e.SHA256 = exotelsim.SHA256(e.Path, e.Size)
		call.RecordingURL = e.SourceURL
	}
	events, err := eventsOf(o.event, call, how)
	if err != nil {
		return e, err
	}
	for _, event := range events {
		for range o.replay {
			if e.Status, e.Attempts, err = to.send(ctx, event, o.wait); err != nil {
				return e, fmt.Errorf("%s: %w", event.name, err)
			}
		}
	}
	return e, nil
}

// send delivers one event as Exotel does, with at most three attempts.
func (t target) send(ctx context.Context, e event, wait time.Duration) (status, attempts int, err error) {
	status, attempts, err = exotelsim.Sender{Proofs: t.proofs, Wait: wait}.Send(ctx, t.url, e.fields, e.how)
	if status == http.StatusUnauthorized && t.hint != "" {
		err = fmt.Errorf("%w: %s", err, t.hint)
	}
	return status, attempts, err
}

// What --event names.
const (
	eventStatus   = "status"
	eventPassthru = "passthru"
	eventLeg      = "leg"
	eventStream   = "stream"
)

// event is one webhook of a call.
type event struct {
	name   string
	fields url.Values
	how    exotelsim.Spelling
}

// eventsOf are a call's events in their order. Only a StatusCallback comes in more than one spelling.
func eventsOf(name string, call exotelsim.Call, how exotelsim.Spelling) ([]event, error) {
	switch name {
	case eventStatus:
		return []event{{"answered event", call.Answered(), how}, {"terminal event", call.Terminal(), how}}, nil
	case eventPassthru:
		return []event{{"passthru", call.Passthru(), exotelsim.Query}}, nil
	case eventStream:
		return []event{{"passthru after a stream", call.StreamEnd(), exotelsim.Query}}, nil
	case eventLeg:
		return []event{{"leg event", call.Leg(), exotelsim.LegJSON}}, nil
	}
	return nil, fmt.Errorf("--event %q is not one of status, passthru, leg, stream", name)
}

// spellingOf returns the body format of call i. "mixed" goes through all formats in turn.
func spellingOf(name string, i int) (exotelsim.Spelling, error) {
	if name == "mixed" {
		return exotelsim.Spellings[i%len(exotelsim.Spellings)], nil
	}
	for _, s := range exotelsim.Spellings {
		if string(s) == name {
			return s, nil
		}
	}
	return "", fmt.Errorf("--spelling %q is not one of mixed, multipart, form, json, query", name)
}

// writeLedger writes one JSON line for each call. Without a file it does nothing.
func writeLedger(file string, entries []ledgerEntry) error {
	if file == "" {
		return nil
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(f)
	for _, e := range entries {
		if err := enc.Encode(e); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}
