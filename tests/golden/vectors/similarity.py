"""Makes similarity.json: what LLaMA-Factory's ComputeSimilarity counts, pair by pair, and what jieba cuts."""
import json, random, sys
import jieba
import numpy as np
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from rouge_chinese import Rouge
import logging
jieba.setLogLevel(logging.ERROR)
texts = [
 "", " ", "\n", "\r\n", "\r\r\n\n", "a", "你", "你好", "Hello, world!", "我来到北京清华大学", "他来到了网易杭研大厦",
 "小明硕士毕业于中国科学院计算所，后在日本京都大学深造", "well-known e-mail 3.14% 1.2.3 v2.0-rc_1", "C++和c#以及AT&T的T恤、B超、AA制与3D打印",
 "价格是3.50元，上涨5%，约合1,234.56美元（USD）。", "IP 192.168.0.1:8080，版本 1.2.3-beta_4，编号 G260911-0711。", "abc-def_ghi.jkl+mno#pqr&stu%vwx",
 "他说：“今天天气真好！”然后走了。", "为什么？因为……所以。", "......是的，没错!", "第一行\n第二行\n\n第四行", "㐀㐁䶵鿖鿿𠀀𪚥龥龦鿕", "豈更車賈滑", "こんにちは世界", "안녕하세요 세계",
 "😀👍🏽表情", "e\u0301tude naïve café", "全角ＡＢＣ１２３", "１２３。４５６", "A座K歌PC机IC卡", "http://example.com/a_b?c=d&e=f#g", "x=1;y=2;", "\u00a0\u3000\u2003空白", "\x1c\x1d\x1e\x1f控制",
 "龘龘龘", "囧rz", "的的的的的", "乒乓球拍卖完了", "南京市长江大桥", "研究生命的起源", "结婚的和尚未结婚的", "永和服装饰品有限公司", "工信处女干事每月经过下属科室都要亲口交代24口交换机等技术性器件的安装工作",
 "雷猴啊", "长春市长春节讲话", "李小福是创新办主任也是云计算方面的专家", "张晓梅去人民医院做了个B超然后去买了件T恤", "AT&T是一件不错的公司，给你发offer了吗？", "C++和c#是什么关系？11+122=133，是吗？PI=3.14159",
 "The capital of France is Paris.", "I am Xinchuang-Bot, an AI assistant developed by Farm Lab.", "您好，我是 Xinchuang-Bot，一个由 Farm Lab 开发的人工智能助手。",
 "def f(x):\n    return x ** 2\n", "| a | b |\n|---|---|\n| 1 | 2 |", "1. 第一点\n2. 第二点\n3. 第三点", "$E=mc^2$", "100%的概率", "50.5%", "5.", ".5", "%", "%%", "-", "--", "---a---", "a.b", "1.a", "a.1", "a1.2b%", "甲-乙", "甲1.2.3乙", "甲.乙", "甲%乙", "甲a.b乙c-d丙",
 "？？？", "！”她说。", "他问：“真的吗？”，我说：“真的。”", "……”后", "。’。”", "。。。", "......”", ".......", "…… ……", "？ ”", "?”,", "啊？”是", "是的。\n\n不是。\n", " 。", "。 ",
]
rng = random.Random(7)
pool = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经十三之进着等部度家电力里如水化高自二理起小物现实加量都两体制机当使点从业本去把性好应开它合还因由其些然前外天政四日那社义事平形相全表间样与关各重新线内数正心反你明看原又么利比或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想已通并提直题党程展五果料象员革位入常文总次品式活设及管特件长求老头基资边流路级少图山统接知较将组见计别她手角期根论运农指几九区强放决西被干做必战先回则任取据处队南给色光门即保治北造百规热领七海口东导器压志世金增争济阶油思术极交受联什认六共权收证改清己美再采转更单风切打白教速花带安场身车例真务具万每目至达走积示议声报斗完类八离华名确才科张信马节话米整空元况今集温传土许步群广石记需段研界拉林律叫且究观越织装影算低持音众书布复容儿须际商非验连断深难近矿千周委素技备半办青省列习响约支般史感劳便团往酸历市克何除消构府称太准精值号率族维划选标写存候毛亲快效斯院查江型眼王按格养易置派层片始却专状育厂京识适属圆包火住调满县局照参红细引听该铁价严"
ascii_pool = list("abcXYZ0123456789.-_%+#& ,!?\n")
punct = list("，。！？、；：“”‘’（）《》……—")
for n in range(160):
    k = rng.randrange(1, 40)
    texts.append("".join(rng.choice(pool) if rng.random() < 0.7 else rng.choice(rng.choice([ascii_pool, punct])) for _ in range(k)))
for n in range(60):
    texts.append("".join(rng.choice(ascii_pool) for _ in range(rng.randrange(1, 24))))
def score(pred, label):
    hypothesis = list(jieba.cut(pred)); reference = list(jieba.cut(label))
    if len(" ".join(hypothesis).split()) == 0 or len(" ".join(reference).split()) == 0:
        result = {"rouge-1": {"f": 0.0}, "rouge-2": {"f": 0.0}, "rouge-l": {"f": 0.0}}
    else:
        result = Rouge().get_scores(" ".join(hypothesis), " ".join(reference))[0]
    out = {k: round(v["f"] * 100, 4) for k, v in result.items()}
    out["bleu-4"] = round(sentence_bleu([list(label)], list(pred), smoothing_function=SmoothingFunction().method3) * 100, 4)
    return out
pairs = []
def near(t):
    cs = list(t)
    for _ in range(rng.randrange(0, 6)):
        if not cs: break
        i = rng.randrange(len(cs)); op = rng.random()
        if op < .4: del cs[i]
        elif op < .7: cs.insert(i, rng.choice(pool))
        else: cs[i] = rng.choice(ascii_pool + punct)
    return "".join(cs)
plain = [t for t in texts if t]
for t in texts: pairs.append((near(t), t))
for _ in range(60): pairs.append((rng.choice(plain), rng.choice(plain)))
pairs += [("", ""), ("", "a"), ("a", ""), (" ", "\n"), ("你好", "你好"), ("ab", "abcdefgh"), ("abcdefgh", "ab"), ("你好吗" * 40, "你好" * 50)]
rows = [dict(predict=p, label=l, **score(p, l)) for p, l in pairs]
means = {k: float(np.mean([r[k] for r in rows])) for k in ["rouge-1", "rouge-2", "rouge-l", "bleu-4"]}
doc = {"made_by": "jieba 0.42.1, rouge-chinese 1.0.3, nltk %s: LLaMA-Factory 0.9.5's ComputeSimilarity; by tests/golden/vectors/similarity.py" % __import__("nltk").__version__,
       "words": [{"text": t, "words": list(jieba.cut(t))} for t in texts], "pairs": rows, "means": means}
with open(sys.argv[1], "w", encoding="utf-8") as f:
    json.dump(doc, f, ensure_ascii=False, indent=0); f.write("\n")
for n in (7, 100, 129, 1000): print(n, repr(float(np.mean(1 / np.arange(1, n + 1)))))
import math; print(repr(math.fsum([1e16, 1, 1e-16])), [round(v, 4) for v in (0.03125, 0.09375, 3.00005, 1e-9)])
