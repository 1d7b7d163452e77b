// Package eventprint prints stored events for people: the same for the commands that read PostgreSQL and for those that ask
// the operator.
package eventprint

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/eventview"
	"github.com/caly-dev/caly/internal/replay"
)

// Heading is the heading of a table of Cells.
var Heading = []string{"ID", "RECEIVED", "TENANT", "CALL", "KIND", "REASON"}

// Cells returns an event's row of a table, safe to print.
func Cells(v eventview.Event) []string {
	return []string{
		fmt.Sprint(v.ID),
		v.ReceivedAt.Format(time.RFC3339),
		cli.Clean(v.Tenant),
		cli.Clean(v.CallSID),
		cli.Clean(v.KindAndType()),
		cli.Dash(v.Why()),
	}
}

// ResultHeading is the heading of a table of ResultCells.
var ResultHeading = []string{"ID", "TENANT", "CALL", "RESULT", "REASON"}

// ResultCells returns the row of an event that was applied again, safe to print.
func ResultCells(v replay.Result) []string {
	result := v.Result
	if v.DryRun {
		result = "would be " + result
	}
	if v.Message != "" {
		result += ": " + v.Message
	}
	return []string{
		fmt.Sprint(v.ID),
		cli.Dash(v.Tenant),
		cli.Dash(v.CallSID),
		cli.Clean(result),
		cli.Dash(v.Reason),
	}
}

// Request prints an event, what to do about it, and its request.
func Request(cmd *cobra.Command, v eventview.Request) {
	state := "applied"
	if v.DeadReason != "" {
		state = "dead: " + v.DeadReason
	}
	rows := [][2]string{
		{"Event", fmt.Sprint(v.ID)},
		{"Received", v.ReceivedAt.Format(time.RFC3339)},
		{"Tenant", v.Tenant},
		{"Call", v.CallSID},
		{"Kind", v.KindAndType()},
		{"Source", v.Source},
		{"State", state},
	}
	if len(v.Unread) > 0 {
		rows = append(rows, [2]string{"Left out", v.Why()})
	}
	if v.Advice != "" {
		rows = append(rows, [2]string{"What to do", v.Advice})
	}
	rows = append(
		rows,
		[2]string{"Content-Type", cli.Dash(v.ContentType)},
		[2]string{"Query" + notVerified(v.CoversQuery, v.Query), cli.Dash(v.Query)},
		[2]string{"Body" + notVerified(v.CoversBody, v.Body), fmt.Sprintf("%d bytes", v.Size)},
	)
	for _, r := range rows {
		cmd.Printf("%-14s %s\n", r[0]+":", cli.Clean(r[1]))
	}
	if v.Size > 0 {
		cmd.Printf("\n%s\n", cleanLines(v.Body))
	}
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
