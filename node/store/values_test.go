package store

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/wire"
)

func TestValues(t *testing.T) {
	room := chat.ChatID{Room: wire.RoomID{31: 1}}
	account := chat.ChatID{Account: wire.AccountID{15: 1}}
	for _, tt := range []struct {
		value driver.Valuer
		scan  sql.Scanner
		want  string // in the column, and what it scans to
	}{
		{number(0), new(number), "[0 0 0 0 0 0 0 0] 0"},
		{number(1<<63 | 2), new(number), "[128 0 0 0 0 0 0 2] 9223372036854775810"},
		{moment{}, new(moment), "0 0001-01-01T00:00:00Z"},
		{moment(time.UnixMilli(-1)), new(moment), "-1 1969-12-31T23:59:59.999Z"},
		{moment(time.Unix(1_800_000_000, 999_999)), new(moment), "1800000000000 2027-01-15T08:00:00Z"},
		{chatID(room), new(chatID), fmt.Sprintf("%v %v", room.Room[:], room)},
		{chatID(account), new(chatID), fmt.Sprintf("%v %v", account.Account[:], account)},
	} {
		v, err := tt.value.Value()
		if err == nil {
			err = tt.scan.Scan(v)
		}
		if err != nil {
			t.Errorf("%s: %v", tt.want, err)
			continue
		}
		var got any
		switch s := tt.scan.(type) {
		case *number:
			got = *s
		case *moment:
			got = time.Time(*s).UTC().Format(time.RFC3339Nano)
		case *chatID:
			got = chat.ChatID(*s)
		}
		want(t, "value", fmt.Sprintf("%v %v", v, got), tt.want)
	}
}

func TestScanRefuses(t *testing.T) {
	for _, tt := range []struct {
		scan sql.Scanner
		src  any
	}{
		{new(number), []byte{1, 2, 3, 4, 5, 6, 7}},
		{new(number), make([]byte, 9)},
		{new(number), int64(1)},
		{new(number), nil},
		{into(make([]byte, 2)), []byte{1}},
		{into(make([]byte, 2)), "ab"},
		{new(moment), "2027"},
		{new(moment), nil},
		{new(chatID), make([]byte, 17)},
		{new(chatID), []byte{}},
		{new(chatID), nil},
	} {
		if err := tt.scan.Scan(tt.src); err == nil {
			t.Errorf("%T took %T %v", tt.scan, tt.src, tt.src)
		}
	}
}
