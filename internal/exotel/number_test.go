package exotel

import (
	"slices"
	"testing"
)

// TestSpellings finds a stored number by each spelling of it, whichever one is stored. The spellings of a line are
// those in Exotel's documents and in support threads: 0XXXXXXXXXX in webhooks and Call Details, +91 in the v3 API,
// and what people type.
func TestSpellings(t *testing.T) {
	for _, line := range [][]string{
		{"+918000000100", "918000000100", "0918000000100", "00918000000100", "+0918000000100", "08000000100",
			"+08000000100", "8000000100", "9108000000100", "+9108000000100"},
		{"+6531290000", "6531290000", "006531290000", "06531290000", "+65 3129-0000", "(65) 3129.0000"},
		{"+6591234567", "006591234567"},
		{"02248931234", "+912248931234", "2248931234"},
		{"+1 (415) 555-0100", "14155550100", "0014155550100"},
	} {
		for _, stored := range line {
			for _, asked := range line {
				if plain := len(stored) == len(digitsOf(stored)); plain && !slices.Contains(Spellings(asked), stored) {
					t.Errorf("%q does not find %q: %q", asked, stored, Spellings(asked))
				}
			}
		}
	}
	for _, tc := range [][2]string{
		{"+918000000100", "+918000000101"},
		{"+6591234567", "91234567"}, // Singapore's 91234567 is not a number without India's prefix
		{"+918000000100", "18000000100"},
		{"100", "+91100"},
	} {
		if slices.Contains(Spellings(tc[0]), tc[1]) {
			t.Errorf("%q finds %q", tc[0], tc[1])
		}
	}
	for _, text := range []string{
		"sip:alice@example.com", "", "+", "911", "0", "00000000000", "12345678901234567890",
		"१२३४५६७८९०",
	} {
		if got := Spellings(text); !slices.Equal(got, []string{text}) {
			t.Errorf("%q has the spellings %q", text, got)
		}
	}
}

func digitsOf(s string) (digits string) {
	for _, r := range s {
		if r == '+' || (r >= '0' && r <= '9') {
			digits += string(r)
		}
	}
	return digits
}
