package agent_test

import (
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/agent"
	"github.com/caly-dev/caly/internal/exotel/agentstream"
)

// page is the page for authors of agents.
const page = "../../docs/agents.md"

var block = regexp.MustCompile("(?ms)^```jsonl ([a-z-]+)\n(.*?)^```$")

// examples returns the lines of each block of messages on the page, by the name behind its language.
func examples(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string][]string{}
	for _, b := range block.FindAllStringSubmatch(string(text), -1) {
		blocks[b[1]] = strings.Split(strings.TrimSpace(b[2]), "\n")
	}
	return blocks
}

// written is a frame as the page shows it.
func written(f agent.Frame) string {
	if !f.Binary {
		return string(f.Data)
	}
	var bytes []string
	for _, b := range f.Data {
		bytes = append(bytes, hex.EncodeToString([]byte{b}))
	}
	return "(binary) " + strings.Join(bytes, " ")
}

func frameOf(t *testing.T, line string) agent.Frame {
	t.Helper()
	text, binary := strings.CutPrefix(line, "(binary) ")
	if !binary {
		return agent.Frame{Data: []byte(line)}
	}
	data, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return agent.Frame{Data: data, Binary: true}
}

// TestPageToAgent checks that the messages to agents on the page are the translations of Exotel's on the same page.
func TestPageToAgent(t *testing.T) {
	blocks := examples(t)
	for _, p := range []agent.Protocol{agent.Twilio, agent.PCM} {
		t.Run(string(p), func(t *testing.T) {
			got := translated(t, open(t, p, blocks), blocks["exotel-to-agent"])
			if diff := cmp.Diff(blocks[string(p)+"-to-agent"], got); diff != "" {
				t.Errorf("%s: messages (-page +code):\n%s", page, diff)
			}
		})
	}
}

type opened struct {
	agent.Codec
	first []agent.Frame
}

// open returns a codec for the stream that the page starts.
func open(t *testing.T, p agent.Protocol, blocks map[string][]string) opened {
	t.Helper()
	codec, err := agent.New(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range blocks["exotel-to-agent"] {
		if start, err := agentstream.ParseStart([]byte(line)); err == nil {
			frames, err := codec.Open(start)
			if err != nil {
				t.Fatal(err)
			}
			return opened{codec, frames}
		}
	}
	t.Fatal("the page has no start of Exotel's")
	return opened{}
}

func translated(t *testing.T, c opened, lines []string) (got []string) {
	t.Helper()
	for _, f := range c.first {
		got = append(got, written(f))
	}
	var s agentstream.Scanner
	for _, line := range lines {
		message, err := s.Scan([]byte(line))
		if err != nil || message.Kind == agentstream.Other {
			t.Fatalf("%s: kind %s, %v", line, message.Kind, err)
		}
		data, binary, send, err := c.FromExotel(nil, message)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if send && message.Kind != agentstream.Start {
			got = append(got, written(agent.Frame{Data: data, Binary: binary}))
		}
	}
	return got
}

// TestPageFromAgent checks that Caly makes of the agents' messages on the page what an agent of Exotel's own protocol
// would send, and that a stop ends the stream.
func TestPageFromAgent(t *testing.T) {
	blocks := examples(t)
	for _, p := range []agent.Protocol{agent.Twilio, agent.PCM} {
		t.Run(string(p), func(t *testing.T) {
			opened := open(t, p, blocks)
			var got []string
			stops := 0
			for _, line := range blocks[string(p)+"-from-agent"] {
				frame := frameOf(t, line)
				out, err := opened.FromAgent(nil, frame.Data, frame.Binary)
				if err != nil || out.Kind == agentstream.Other {
					t.Fatalf("%s: kind %s, %v", line, out.Kind, err)
				}
				if out.Send {
					got = append(got, string(out.Frame))
				}
				if out.Kind == agentstream.Stop {
					stops++
				}
			}
			want := blocks["exotel-from-agent"]
			if p == agent.Twilio { // mu-law has fewer values than 16-bit samples
				got = got[1:]
				want = want[1:]
			}
			if diff := cmp.Diff(want, got); diff != "" || stops != 1 {
				t.Errorf("%s: %d stops, messages (-page +code):\n%s", page, stops, diff)
			}
		})
	}
}
