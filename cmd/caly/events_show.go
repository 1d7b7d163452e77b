package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
)

// advice says what a person can do about a reason.
var advice = map[string]string{
	reason.DeadSourceRefused: "It names a recording whose URL the Tenant does not allow. If the host is right, " +
		"add it to spec.recordings.allowedSourceHosts of the Tenant " +
		"(a private address: to --allowed-source-cidrs of operator and data plane), and apply it again.",
	reason.DeadStale: "By its own time it was older than spec.webhooks.freshness of the Tenant when " +
		"it came: Exotel was late, or somebody sent an old request again. " +
		"If what it says is true, apply it again; its age does not count then.",
	reason.DeadTooManyRecordings: "Its call has as many recordings as Caly keeps of one call, 16, and it " +
		"names one more. It will not be applied.",
	reason.DeadRefused: "PostgreSQL refused what it says; its words are in the data plane's log of that " +
		"time. Apply it again after an upgrade.",
	reason.DeadMalformedBody: "Its body cannot be read. Compare the request below with what Exotel " +
		"documents; apply it again after an upgrade that reads it.",
	reason.DeadMalformedQuery: "Its query could not be read by an earlier version. Apply it again: the fields " +
		"that were stored are applied.",
	reason.DeadTooManyFields: "It has more fields, or longer ones, than a webhook of Exotel's. Look at the request " +
		"below; it is hardly Exotel's.",
	reason.DeadMissingCallSID: "It names no call in any way that this version knows. Compare the request " +
		"below with what Exotel documents; apply it again after an upgrade that reads it.",
	reason.DeadInvalidCallSID: "What it names as its call is not an id. Look at the request below; apply it " +
		"again after an upgrade that reads it.",
	reason.DeadMissingEventSID: "It came to the address for leg events, and has no event_sid. Check which address is " +
		"given to Exotel for which event.",
	reason.DeadEventSIDMismatch: "Its header and its body name different events. Look for a proxy in front of Caly " +
		"that mixes up requests.",
}

// partialAdvice is what a person can do about an event with fields that were left out.
const partialAdvice = "The other fields are applied. Compare the fields that were left out with the request " +
	"below. Apply the event again after an upgrade that reads " +
	"them or, for a rejected recording, after a change of spec.recordings.allowedSourceHosts."

// adviceOn returns what an operator can do about an event that is dead for this reason.
func adviceOn(reason string) string {
	if a, ok := advice[reason]; ok {
		return a
	}
	return "Apply it again after an upgrade; this caly does not know the reason."
}

// requestView is an event in JSON, with its request.
type requestView struct {
	eventView
	Advice      string `json:"advice,omitempty"`
	ContentType string `json:"contentType,omitempty"`
	Query       string `json:"query,omitempty"`
	Body        string `json:"body,omitempty"`
	CoversQuery bool   `json:"queryVerified"`
	CoversBody  bool   `json:"bodyVerified"`
}

func newEventsShowCommand(file *string) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show an event, its request, and what to do about it",
		Args:  oneEvent,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseEventID(args[0])
			if err == nil {
				err = checkOutput(output)
			}
			if err != nil {
				return err
			}
			db, err := openEvents(cmd, *file)
			if err != nil {
				return err
			}
			defer db.Close()
			keptEvent, err := db.Event(cmd.Context(), id)
			if errors.Is(err, store.ErrNotFound) {
				return fmt.Errorf("there is no event %d: caly events list shows which there are", id)
			}
			if err != nil {
				return err
			}
			return showEvent(cmd, keptEvent, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

// oneEvent is the argument check of commands that take one event id.
func oneEvent(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return cli.UsageError(cmd, errors.New("give the id of one event: caly events list shows them"))
	}
	return nil
}

// showEvent prints one event with its request. Secrets in the request are redacted.
func showEvent(cmd *cobra.Command, e store.KeptEvent, output string) error {
	v := requestView{
		eventView:   viewOf(e),
		ContentType: redact(e.ContentType),
		Query:       redact(e.Query),
		Body:        redact(strings.ToValidUTF8(string(e.Raw), "\uFFFD")),
		CoversQuery: e.CoversQuery,
		CoversBody:  e.CoversBody,
	}
	if e.Reason != "" {
		v.Advice = adviceOn(e.Reason)
	}
	if output == "json" {
		return cli.PrintJSON(cmd.OutOrStdout(), v)
	}
	state := "applied"
	if e.Reason != "" {
		state = "dead: " + e.Reason
	}
	rows := [][2]string{
		{"Event", fmt.Sprint(e.ID)},
		{"Received", v.ReceivedAt.Format(time.RFC3339)},
		{"Tenant", e.Tenant},
		{"Call", e.CallSID},
		{"Kind", kindOf(v.eventView)},
		{"Source", e.Source},
		{"State", state},
	}
	if len(e.Unread) > 0 {
		rows = append(rows, [2]string{"Left out", v.reason()})
		v.Advice = partialAdvice
	}
	if v.Advice != "" {
		rows = append(rows, [2]string{"What to do", v.Advice})
	}
	rows = append(
		rows,
		[2]string{"Content-Type", cli.Dash(v.ContentType)},
		[2]string{"Query" + notVerified(e.CoversQuery, e.Query), cli.Dash(v.Query)},
		[2]string{"Body" + notVerified(e.CoversBody, v.Body), fmt.Sprintf("%d bytes", e.Size)},
	)
	for _, r := range rows {
		cmd.Printf("%-14s %s\n", r[0]+":", cli.Clean(r[1]))
	}
	if e.Size > 0 {
		cmd.Printf("\n%s\n", cleanLines(v.Body))
	}
	return nil
}

// notVerified marks a part of the request that no verifier covers. Caly reads nothing from that part.
func notVerified(covered bool, part string) string {
	if covered || part == "" {
		return ""
	}
	return " (not verified, not read)"
}

// cleanLines replaces what a terminal could interpret, and keeps line breaks and tabs.
func cleanLines(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, strings.ReplaceAll(s, "\r\n", "\n"))
}

// secretName is how the name of a field ends that says that its value is secret.
const secretName = `(?:key|token|secret|passw|signature|credential)[\w.%-]*?\]?` //nolint:gosec // a pattern of names

// secrets are what to redact, and what with: more rather than less, and whatever the request claims to be.
var secrets = []struct {
	value       *regexp.Regexp
	replacement string
}{
	{
		regexp.MustCompile(`(?is)(` + secretName + `"\r?\n(?:[^\r\n]+\r?\n)*\r?\n).*?(\r?\n--|$)`),
		"${1}redacted${2}",
	}, // multipart
	{
		regexp.MustCompile(`(?i)(` + secretName + `\\*"\s*:[\s\[]*\\*")(?:[^"\\]|\\.)*`),
		"${1}redacted",
	}, // JSON, and JSON in a string
	{
		regexp.MustCompile(`(?i)(` + secretName + `\\*"\s*:\s*)[-+.\w]+`),
		"${1}redacted",
	}, // JSON, no string
	{
		regexp.MustCompile(`(?i)(` + secretName + `(?:=|%3D))[^&\r\n"]+`),
		"${1}redacted",
	}, // a form, a query, a URL in any of them
	{
		regexp.MustCompile(`(?i)(://|%3A%2F%2F)[^/?#\s"&]*(@|%40)`),
		"${1}redacted${2}",
	}, // a URL's user and password
}

// redact removes secrets from a request: it is kept as received, and not shown so.
func redact(s string) string {
	for _, r := range secrets {
		s = r.value.ReplaceAllString(s, r.replacement)
	}
	return s
}
