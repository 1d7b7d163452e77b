package bad

import "testing"

func TestBad(t *testing.T) { t.Fatal("it always fails") }
