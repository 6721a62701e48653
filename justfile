# Recipes for developers; each is one command that also works without just.
set shell := ["bash", "-euc"]
export CGO_ENABLED := "1"

# list the recipes
default:
    @just --list

# run the auth server
authd *args:
    go run ./authd {{args}}

# run a node
node *args:
    go run ./node {{args}}

# see the whole thing at work: an authd and three nodes on loopback
demo *args:
    go run ./node demo {{args}}

# an emulated LAN with a shell in it: just lan -hosts 4
lan *args:
    go run ./testdata/lan {{args}}

# build both programs into bin/
build:
    go build -o bin/ ./authd ./node

# all tests
test *args:
    go test ./... {{args}}

# all tests with the race detector
race *args:
    go test -race ./... {{args}}

# kill two nodes in the middle of their talk, again and again: just kill-nodes 100
kill-nodes rounds="100":
    LANCHAT_KILLS={{rounds}} go test -count 1 -timeout 60m -run TestKilledAgainAndAgain ./node

# whole nodes on the emulated LAN, first how many, then at how much loss: just loss "10 0 1 5 20 40"
loss losses="10 0 1 5 20 40":
    LANCHAT_LOSS="{{losses}}" go test -count 1 -timeout 20m -v -run 'TestLoss$' ./node

# people come and go in a bad network, in virtual time: just week 50 7
week nodes="50" days="7":
    LANCHAT_NODES={{nodes}} LANCHAT_DAYS={{days}} go test -count 1 -timeout 4h -v -run TestComeAndGo ./node/chat

# kill authd in the middle of its work, again and again: just kill 200
kill rounds="200":
    LANCHAT_KILLS={{rounds}} go test -count 1 -timeout 1h -v -run '^TestKilledAtAnyMoment$' ./authd

# what one authd sustains: log-ins, renewals, memory, storms
bench-auth *args:
    go run ./testdata/bench {{args}} auth

# how soon people see each other come and go, in processes on the emulated LAN
bench-discovery *args:
    go run ./testdata/bench {{args}} discovery

# messages in rooms and directly beside raw multicast and bare quic-go: just bench-delivery -full
bench-delivery *args:
    go run ./testdata/bench {{args}} delivery

# rooms of many: kicks, joins, long logs, memory, in virtual time; who is disabled, in processes
bench-rooms *args:
    go run ./testdata/bench {{args}} rooms

# the properties of rooms and of delivery, many times over: just prove 20000
prove checks="20000":
    go test -count 1 -timeout 4h ./node/room -rapid.checks {{checks}}
    go test -count 1 -timeout 4h ./node/chat -run 'Kicked|ExactlyOnce|DeliveryProperty' -rapid.checks $(( {{checks}} / 10 ))

# every fuzz target for a while: just fuzz 30s
fuzz time="5s":
    for pkg in $(go list ./...); do for f in $(go test -list '^Fuzz' $pkg | grep ^Fuzz || true); do echo "$pkg $f"; go test -run '^$' -fuzz "^$f\$" -fuzztime {{time}} $pkg; done; done

# rewrite the vectors and golden files the tests compare with
update:
    go test ./... -update

# draw the README's picture from the screen of the real program
picture:
    LANCHAT_PICTURE="$PWD/testdata/screen.svg" go test -count 1 -run '^TestScreen$' ./node

# format
fmt:
    gofmt -w .

# what CI runs
check:
    bash .ci/run
