"""How a page looks: in light, in the dark, on a telephone and on paper."""

STYLE = '''
:root{--paper:#fcfcfa;--ink:#1a1d21;--soft:#59616b;--rule:#d8dbe0;--card:#fff;--heat:0 90 150;--minus:213 94 0;
--good:#00694d;--bad:#a63f00;--link:#005a94}
@media (prefers-color-scheme:dark){:root{--paper:#13161a;--ink:#e8eaed;--soft:#a0a8b3;--rule:#343b44;--card:#1b1f25;
--heat:110 195 245;--minus:240 140 60;--good:#4fd1a5;--bad:#ff9a5c;--link:#7cc4f2}}
*{box-sizing:border-box}
html{scroll-padding-top:9rem}
body{margin:0 auto;padding:0 clamp(1rem,4vw,3rem) 4rem;max-width:76rem;background:var(--paper);color:var(--ink);
font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;font-variant-numeric:tabular-nums}
header{padding:clamp(2rem,6vw,4.5rem) 0 1rem}
.eyebrow{margin:0 0 .75rem;color:var(--soft);font-size:.875rem;letter-spacing:.02em}
h1{margin:0;max-width:26ch;font-size:clamp(1.75rem,4.6vw,3rem);line-height:1.12;letter-spacing:-.02em;text-wrap:balance}
.answer{max-width:60ch;margin:1.25rem 0 1.5rem;font-size:clamp(1.05rem,2vw,1.25rem);line-height:1.5}
nav{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;font-size:.9375rem}
a{color:var(--link);text-underline-offset:.2em}
section{margin-top:3.5rem;padding-top:1.25rem;border-top:1px solid var(--rule)}
section:first-child{margin-top:.75rem;border:0}
h2{margin:0 0 1rem;font-size:1.5rem;line-height:1.2;letter-spacing:-.01em}
h3{margin:0 0 .75rem;font-size:1.25rem}
h4{margin:1.5rem 0 .5rem;font-size:1rem}
.lead{max-width:66ch;margin:0 0 1rem}
#tasks{margin-top:3.5rem;border-top:1px solid var(--rule)}
#tasks h2{margin-top:1.25rem}
#tasks section{margin-top:2.5rem}
h3 small,figcaption,.axis,.who small,.findings small{color:var(--soft);font-weight:400;font-size:.875rem}
section>p{max-width:66ch}
.note{max-width:90ch;margin:.6rem 0;color:var(--soft);font-size:.875rem}
figure{margin:0 0 1.5rem;min-width:0}
figcaption b{display:block;color:var(--ink);font-size:1rem}
:focus-visible{outline:2px solid var(--link);outline-offset:2px}
.missing{color:var(--bad);font-weight:400}
.bar{z-index:2}
#task>.bar{position:sticky;top:0;background:var(--paper);border-bottom:1px solid var(--rule)}
fieldset{margin:0;padding:.5rem 0;border:0;min-width:0;font-size:.875rem}
.chips{display:flex;flex-wrap:wrap;align-items:center;gap:.3rem .45rem}
.chips legend{float:left;margin-right:.6rem;padding:0;color:var(--soft);line-height:1.9}
.chips input{position:absolute;opacity:0}
.chips label span{display:block;padding:.15rem .6rem;border:1px solid var(--rule);border-radius:.3rem;cursor:pointer}
.chips input:checked+span{background:var(--ink);border-color:var(--ink);color:var(--paper)}
.chips input:focus-visible+span{outline:2px solid var(--link);outline-offset:2px}
.legend{display:flex;flex-wrap:wrap;gap:.1rem 1.1rem;max-height:5.5rem;overflow:auto;white-space:nowrap}
.legend legend{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.legend label{display:flex;align-items:center;gap:.35rem;cursor:pointer}
.legend label:has(input:not(:checked)){color:var(--soft);text-decoration:line-through}
input{accent-color:var(--link);margin:0}
svg{display:block;overflow:visible}
.swatch{display:inline-block;flex:none;width:2.1rem;height:.8rem;margin-right:.3rem;vertical-align:-.05rem}
.grid{stroke:var(--rule);stroke-width:1}
.mean,.run,.bar{fill:none;stroke:var(--c);vector-effect:non-scaling-stroke}
.mean{stroke-width:2.25;stroke-dasharray:var(--dash);stroke-linejoin:round}
.band{fill:var(--c);fill-opacity:.13}
.mark{fill:var(--c);stroke:var(--paper);stroke-width:1.25}
.large{transform:scale(1.5)}
.small.mark{transform:scale(.7);fill-opacity:.55}
.hollow{fill:var(--paper);stroke:var(--c);stroke-width:2}
.plot{width:calc(100% - 3.75rem);height:16rem;margin:1rem .75rem 2.2rem 3rem}
.plot text{fill:var(--soft);font-size:.8125rem;text-anchor:middle}
.plot text.y{text-anchor:end}
.plot text.end{text-anchor:start;fill:var(--ink)}
.plot text.second{font-size:.75rem}
.charts.small{grid-template-columns:repeat(auto-fit,minmax(min(100%,15rem),1fr))}
.charts.small .plot{height:11rem}
.wide .plot{height:24rem}
.plot.two{margin-bottom:3.4rem}
.plot.named{width:calc(100% - 12.5rem);margin-right:9.5rem}
.axis{margin:0 0 0 3rem}
.charts{display:grid;margin-top:1.5rem;gap:1.5rem 2rem;
grid-template-columns:repeat(auto-fit,minmax(min(100%,21rem),1fr))}
.who{padding:.25rem 0;line-height:1.3;min-width:12rem;max-width:17rem;white-space:normal}
.who small{display:block}
.tag{margin-left:.5rem;padding:0 .4rem;border:1px solid var(--rule);border-radius:1rem;color:var(--soft);
font-size:.75rem;white-space:nowrap}
.track{width:100%;min-width:14rem;height:2.75rem}
.track circle.run{fill:var(--c);fill-opacity:.35;stroke-width:1}
.track .failed{fill:none;stroke:var(--bad);stroke-width:1.75}
.track .bar{stroke-width:7;stroke-opacity:.35}
.zero{stroke:var(--soft);stroke-width:1.5;stroke-dasharray:4 3}
.ticks{display:block;position:relative;height:1.25rem;margin-top:.25rem;font-size:.8125rem}
.ticks i{position:absolute;transform:translateX(-50%);font-style:normal}
.scroll{overflow-x:auto}
table{border-collapse:collapse}
.data{width:100%;font-size:.875rem;line-height:1.35}
.data th{color:var(--soft);font-weight:500;text-align:left;vertical-align:bottom}
.data th,.data td{padding:.4rem .75rem .4rem 0;border-bottom:1px solid var(--rule)}
.data td{vertical-align:top;white-space:pre}
.data tr:has(.track) td{vertical-align:middle}
.data .n{text-align:right}
.data button{all:unset;cursor:pointer;white-space:normal}
.data button:focus-visible{outline:2px solid var(--link);outline-offset:2px}
.data button:hover{color:var(--ink);text-decoration:underline}
.data [aria-sort=ascending] button::after{content:" ▲";font-size:.7em}
.data [aria-sort=descending] button::after{content:" ▼";font-size:.7em}
.data .swatch{vertical-align:-.1em}
.data td:has(.track),.data th:has(.ticks){width:40%;padding-left:1rem;padding-right:1.5rem}
.data .verdict,.prose{display:inline-block;white-space:normal;min-width:13rem;max-width:26rem}
code{font:.9em ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
details{margin:1.25rem 0}
summary{cursor:pointer;padding:.35rem 0;font-weight:600}
.selects{display:flex;flex-wrap:wrap;gap:.75rem 1.25rem;margin:1rem 0}
.selects label{display:grid;gap:.15rem;color:var(--soft);font-size:.875rem;min-width:0}
select{font:inherit;font-size:.9375rem;color:var(--ink);background:var(--card);border:1px solid var(--rule);
border-radius:.3rem;padding:.25rem .5rem;max-width:22rem}
.map{margin:0;width:fit-content;padding:.9rem 1rem .6rem;max-width:100%;min-width:min(100%,15rem);
background:var(--card);
border:1px solid var(--rule);border-radius:.5rem}
.map figcaption b{margin:.1rem 0 .25rem;font-size:1.125rem;overflow-wrap:anywhere}
.map dl{margin:0 0 .75rem;line-height:1.4}
.map dl div{display:flex;gap:.5rem}
dt{color:var(--soft)}
dd{margin:0;color:var(--ink);overflow-wrap:anywhere;min-width:0}
.map dt{flex:0 0 3.4rem}
.rule{margin-right:.75rem}
.right{color:var(--good)}
.wrong{color:var(--bad)}
.heat .nothing{padding:1.5rem 1rem;border:1px dashed var(--rule);border-radius:.3rem;color:var(--soft)}
.scales{white-space:nowrap}
.ramp{display:inline-block;width:5rem;height:.8rem;border:1px solid var(--rule);vertical-align:-.05rem;
background:linear-gradient(90deg,rgb(var(--heat)/0),rgb(var(--heat)/1));print-color-adjust:exact}
.heat{--cell:1.6rem;font-size:.8125rem;line-height:1.2;print-color-adjust:exact;-webkit-print-color-adjust:exact}
.heat.small{--cell:1.15rem;font-size:.75rem}
.heat th{font-weight:400;padding:0 .35rem 0 0;text-align:right;white-space:pre}
.heat thead th{padding:0 0 .2rem;text-align:center;vertical-align:bottom}
.heat .tall bdi{writing-mode:vertical-rl;transform:rotate(180deg)}
.heat tbody td{width:var(--cell);min-width:var(--cell);height:var(--cell);padding:0;border:1px solid var(--rule);
background:rgb(var(--heat)/var(--w,0))}
.heat td.minus{background:rgb(var(--minus)/var(--w))}
.heat td.here{outline:2px solid var(--ink);outline-offset:-1px}
output{display:block;min-height:1.5em;margin-top:.3rem;color:var(--soft);font-size:.875rem}
.findings{list-style:none;margin:0;padding:0}
.findings li{display:grid;grid-template-columns:11rem 1fr;gap:1rem;padding:.75rem 0;border-top:1px solid var(--rule)}
.findings small{display:block}
.verdict b{display:inline-block;min-width:1.1em}
.findings .verdict{font-weight:600}
.findings .open b{border:1px dashed currentColor;border-radius:50%;text-align:center;line-height:1.15}
.verdict.missing,.open{color:var(--soft)}
.sign{font-size:.875em}
pre{white-space:pre-wrap;overflow-wrap:anywhere;
padding:.9rem 1rem;background:var(--card);border:1px solid var(--rule);border-radius:.5rem;
font:.9375rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.facts div{display:grid;grid-template-columns:10rem 1fr;gap:1rem;padding:.3rem 0;border-bottom:1px solid var(--rule)}
@media (max-width:44rem){
.legend{flex-wrap:nowrap}
.who{min-width:8rem}.who small{display:none}.track{min-width:10rem}
.plot.named{width:calc(100% - 3.75rem);margin-right:.75rem}.plot .name{display:none}
.plot text.second{font-size:.625rem}
.findings li{grid-template-columns:1fr;gap:.1rem}
.facts div{grid-template-columns:1fr;gap:0}}
@media print{
html{font-size:11px}
:root{--paper:#fff;--ink:#000;--soft:#444;--rule:#ccc;--card:#fff;--heat:0 90 150;--minus:213 94 0;--good:#00694d;
--bad:#a63f00;--link:#000}
body{max-width:none;padding:0}
header{padding-top:0}
nav,.legend input,.chips,.selects{display:none}
#task>.bar{position:static}
.legend{max-height:none}
section{margin-top:1.5rem}
.panel+.panel{margin-top:1.5rem}
figure,.findings li,tr{break-inside:avoid}
h2,h3,h4,section>p{break-after:avoid}
details::details-content{content-visibility:visible;height:auto}
.scroll{overflow:visible}
.data td{white-space:pre-wrap}
.data{font-size:.8rem}
.track{min-width:8rem}}
'''
