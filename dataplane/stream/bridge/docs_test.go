package bridge

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// TestPageOfCodes checks that the page for authors of agents has each reason with the code that the agent gets.
func TestPageOfCodes(t *testing.T) {
	const page = "../../../docs/agents.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	closed := func(code int) error { return &websocket.CloseError{Code: code} }
	drained, cancel := context.WithCancel(t.Context())
	cancel()
	for _, v := range []verdict{
		callEnded(), agentAsked(), agentEnded(closed(websocket.CloseNormalClosure)), agentEnded(errSlow),
		agentEnded(errSlowSender), agentEnded(errFlood), agentEnded(errSilent),
		agentEnded(errNoMemory), agentEnded(errMalformed),
		exotelEnded(closed(websocket.CloseNormalClosure)), exotelEnded(errSilent), cutOf(drained),
	} {
		if row := fmt.Sprintf("| %d | `%s` |", v.agentCode, v.reason); !strings.Contains(string(text), row) {
			t.Errorf("%s has no row %q", page, row)
		}
	}
	for _, r := range Reasons() {
		if !regexp.MustCompile("(?m)^\\| 1\\d{3} \\| `" + string(r) + "` \\|").Match(text) {
			t.Errorf("%s has no row for the reason %s", page, r)
		}
	}
}
