package discovery

// Bulk divides the number of packets of tests that send very many: the race
// detector makes each ten times as dear.
var Bulk = 1
