-- statements that HogQL and ClickHouse both have, one a line, over a table t(a, b, c, d, e)
SELECT a, b FROM t ORDER BY a, b LIMIT 3
SELECT DISTINCT b FROM t ORDER BY b LIMIT 9
SELECT b, count(), sum(a), avg(a), min(c), max(c) FROM t GROUP BY b ORDER BY b LIMIT 9
SELECT b, count() AS n FROM t GROUP BY b HAVING n > 0 ORDER BY n DESC, b LIMIT 9
SELECT a, row_number() OVER (PARTITION BY b ORDER BY a DESC) AS n FROM t ORDER BY a LIMIT 99
SELECT a, sum(a) OVER (ORDER BY a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS n FROM t ORDER BY a LIMIT 99
SELECT a, sum(a) OVER w AS n FROM t WINDOW w AS (PARTITION BY b ORDER BY a) ORDER BY a LIMIT 99
SELECT x.a, y.a FROM t AS x JOIN t AS y ON x.a = y.a + 1 ORDER BY x.a LIMIT 99
SELECT x.a, y.n FROM t AS x LEFT JOIN (SELECT b, count() AS n FROM t GROUP BY b) AS y ON x.b = y.b ORDER BY x.a LIMIT 9
SELECT a FROM t WHERE b IN (SELECT b FROM t WHERE a > 3) ORDER BY a LIMIT 99
SELECT a, item FROM t ARRAY JOIN c AS item ORDER BY a, item LIMIT 99
SELECT a, arrayMap(x -> x * a, c), arrayFilter(x -> x > 1, c), c[1] FROM t ORDER BY a LIMIT 99
WITH big AS (SELECT a FROM t WHERE a > 2) SELECT count() FROM big LIMIT 1
SELECT count() FROM (SELECT a FROM t UNION ALL SELECT a FROM t) AS both LIMIT 1
SELECT a FROM t WHERE a BETWEEN 2 AND 4 AND NOT (b = 'x') ORDER BY a LIMIT 9
SELECT a, CASE WHEN a > 3 THEN 'big' ELSE 'small' END AS size, if(a > 3, 1, 0), multiIf(a = 1, 'one', 'more') FROM t ORDER BY a LIMIT 9
SELECT quantile(0.5)(a), groupArray(a), uniq(b), countIf(a > 2), argMax(b, a) FROM (SELECT * FROM t ORDER BY a) AS s LIMIT 1
SELECT a FROM t ORDER BY b DESC, a ASC LIMIT 2 BY b LIMIT 3
SELECT b || '-' || toString(a), upper(b), length(b), substring(b, 1, 1), replaceAll(b, 'x', 'y') FROM t ORDER BY a LIMIT 9
SELECT toStartOfMonth(d), toYear(d), dateDiff('day', d, toDate('2026-02-01')), d + INTERVAL 1 DAY FROM t ORDER BY a LIMIT 9
SELECT coalesce(e, 'none'), ifNull(e, ''), isNull(e), e IS NULL FROM t ORDER BY a LIMIT 9
SELECT count() FROM t WHERE b LIKE 'x%' OR b ILIKE 'Y%' OR match(b, '^z') LIMIT 1
SELECT (a, b), tuple(a, b).1, [a, a + 1], a % 2, -a, a / 2, intDiv(a, 2) FROM t ORDER BY a LIMIT 9
SELECT b, a FROM t ORDER BY a LIMIT 1 WITH TIES
SELECT a FROM t EXCEPT SELECT 3
SELECT a FROM t INTERSECT SELECT 3
SELECT number, number * 2 FROM numbers(4) ORDER BY number DESC LIMIT 9
SELECT a, lagInFrame(a) OVER (ORDER BY a) AS before, leadInFrame(a) OVER (ORDER BY a) AS after FROM t ORDER BY a LIMIT 9
SELECT a, rank() OVER (ORDER BY b) AS r, dense_rank() OVER (ORDER BY b) AS d FROM t ORDER BY a LIMIT 9
SELECT a, first_value(b) OVER (ORDER BY a) AS f, last_value(b) OVER (ORDER BY a) AS l FROM t ORDER BY a LIMIT 9
SELECT a, count() OVER () AS n, max(a) OVER (PARTITION BY length(b)) AS m FROM t ORDER BY a LIMIT 9
SELECT length(b) AS n, count() FROM t GROUP BY n ORDER BY n LIMIT 9
SELECT length(b) AS n, a % 2 AS m, count() FROM t GROUP BY ROLLUP(n, m) ORDER BY n, m, 3 LIMIT 99
SELECT length(b) AS n, a % 2 AS m, count() FROM t GROUP BY CUBE(n, m) ORDER BY n, m, 3 LIMIT 99
SELECT length(b) AS n, count() FROM t GROUP BY GROUPING SETS ((n), ()) ORDER BY n, 2 LIMIT 99
SELECT x.a FROM t AS x CROSS JOIN t AS y WHERE x.a < y.a ORDER BY x.a LIMIT 99
SELECT x.a, y.a FROM t AS x RIGHT JOIN t AS y ON x.a = y.a ORDER BY y.a LIMIT 99
SELECT x.a, y.a FROM t AS x FULL OUTER JOIN t AS y ON x.a = y.a ORDER BY x.a LIMIT 99
SELECT x.a FROM t AS x ANY LEFT JOIN t AS y ON x.b = y.b ORDER BY x.a LIMIT 99
SELECT x.a FROM t AS x SEMI LEFT JOIN t AS y ON x.a = y.a ORDER BY x.a LIMIT 99
SELECT a FROM (SELECT a, b FROM t) AS inner WHERE inner.b = 'x' OR inner.a = 1 ORDER BY a LIMIT 9
WITH x AS (SELECT max(a) AS m FROM t), y AS (SELECT m + 1 AS n FROM x) SELECT n FROM y LIMIT 9
SELECT (SELECT max(a) FROM t) AS m, a FROM t ORDER BY a LIMIT 9
SELECT a FROM t WHERE a = (SELECT min(a) FROM t) LIMIT 9
SELECT a FROM t WHERE (a, b) IN ((1, 'xx'), (2, 'y')) ORDER BY a LIMIT 9
SELECT arrayJoin(c) AS item, a FROM t ORDER BY a, item LIMIT 99
SELECT a, arraySum(c), arraySort(x -> -x, c), arrayExists(x -> x = 1, c), has(c, 0), length(c) FROM t ORDER BY a LIMIT 9
SELECT arrayReduce('sum', c), arrayConcat(c, [7]), arrayDistinct([1, 1, 2]), indexOf([3, 4], 4) FROM t ORDER BY a LIMIT 9
SELECT splitByChar(',', 'a,b'), arrayStringConcat(['a', 'b'], '-'), lower('ÄB'), reverse(b), concat(b, '!') FROM t ORDER BY a LIMIT 9
SELECT toDayOfWeek(d), toMonth(d), toDayOfMonth(d), toMonday(d), addDays(d, 3), dateDiff('week', d, addDays(d, 15)) FROM t ORDER BY a LIMIT 9
SELECT round(a / 3, 2), floor(a / 3), ceil(a / 3), abs(-a), sqrt(a * a), greatest(a, 3), least(a, 3) FROM t ORDER BY a LIMIT 9
SELECT JSONExtractString('{"k": "v"}', 'k'), JSONExtractInt('{"k": 3}', 'k'), JSONHas('{"k": 3}', 'k'), JSONLength('[1, 2]') LIMIT 1
SELECT sumIf(a, a > 2), avgIf(a, a > 2), uniqExact(b), any(length(b)) > 0, min(d), max(d) FROM t LIMIT 1
SELECT topK(1)(length(b)), quantiles(0.1, 0.9)(a), groupUniqArray(a % 2) = groupUniqArray(a % 2), median(a) FROM t LIMIT 1
SELECT windowFunnel(10)(toDateTime(a), a = 1, a = 2, a = 9) FROM t LIMIT 1
SELECT a FROM t WHERE NOT a IN (1, 2) AND a != 3 AND a <> 4 ORDER BY a LIMIT 9
SELECT a > 2 AND b LIKE '%y%' OR a = 1, NOT a = 2, a IN [1, 2], a NOT IN (1) FROM t ORDER BY a LIMIT 9
SELECT if(a > 2, b, 'no'), nullIf(a, 2), coalesce(nullIf(a, 2), 0) FROM t ORDER BY a LIMIT 9
SELECT a FROM t ORDER BY length(b) DESC, a DESC LIMIT 3
SELECT DISTINCT length(b), a % 2 FROM t ORDER BY 1, 2 LIMIT 9
SELECT a FROM t WHERE a IN (SELECT number FROM numbers(3)) ORDER BY a LIMIT 9
SELECT a * 2 AS double, double + 1 AS more FROM t ORDER BY more LIMIT 9
SELECT count(), count(DISTINCT b), count(e) FROM t LIMIT 1
SELECT cityHash64(b) % 2, hex(255) FROM t ORDER BY a LIMIT 9
SELECT b FROM t WHERE b > 'x' ORDER BY b LIMIT 9
SELECT 1 AS a UNION ALL SELECT 2 UNION ALL SELECT 2
SELECT 1 AS a UNION DISTINCT SELECT 1
