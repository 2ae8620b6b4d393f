"""Owns the choice of emoji that the model is trained on: what is drawn, what it is called, which pairs are held out.

Few, well told apart: near-duplicates of what is already there (a second dog, twenty clocks) teach nothing but confusion
at 32 x 32 pixels. Names are those of emoji.json in lower case unless RENAMED says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

# Whole subcategories, and names of them that are left out.
SUBCATEGORIES: Mapping[str, frozenset[str]] = {
    "face-hat": frozenset(),
    "face-glasses": frozenset(),
    "face-costume": frozenset({"japanese goblin"}),
    "monkey-face": frozenset(),
    "animal-mammal": frozenset(
        {
            "monkey",
            "orangutan",
            "dog",
            "guide dog",
            "service dog",
            "black cat",
            "tiger",
            "leopard",
            "moose",
            "bison",
            "ox",
            "water buffalo",
            "cow",
            "pig",
            "boar",
            "dromedary camel",
            "mouse",
            "rat",
            "rabbit",
            "beaver",
            "badger",
            "goat",
            "mammoth",
            "donkey",
            "horse",
        }
    ),
    "animal-bird": frozenset({"turkey", "hatching chick", "front-facing baby chick", "dove", "black bird", "wing"}),
    "animal-amphibian": frozenset(),
    "animal-reptile": frozenset({"dragon", "t-rex"}),
    "animal-marine": frozenset({"whale"}),
    "animal-bug": frozenset({"bug", "cricket", "fly", "ant"}),
    "plant-flower": frozenset({"blossom", "white flower", "rosette"}),
    "plant-other": frozenset({"herb", "leafless tree", "leaf fluttering in wind", "empty nest"}),
    "food-fruit": frozenset({"lime", "mango", "red apple", "green apple"}),
    "food-vegetable": frozenset({"brown mushroom", "root vegetable", "ginger root", "beans"}),
    "food-prepared": frozenset({"stuffed flatbread", "tamale", "fondue", "shallow pan of food", "flatbread"}),
    "food-asian": frozenset({"curry and rice", "cooked rice", "oden"}),
    "food-sweet": frozenset({"ice cream"}),
    "drink": frozenset({"clinking beer mugs", "pouring liquid", "sake bottle and cup", "mate drink"}),
    "sport": frozenset(
        {"softball", "rugby football", "cricket bat and ball", "field hockey stick and ball", "goal net"}
    ),
    "musical-instrument": frozenset({"long drum", "flute"}),
}

# Chosen one by one, with the words that the model is to know them by where those of emoji.json are not theirs.
CHOSEN: Mapping[str, str] = {
    # faces
    "grinning face": "", "face with tears of joy": "", "rolling on the floor laughing": "", "upside-down face": "",
    "winking face": "", "smiling face with halo": "", "smiling face with heart-shaped eyes": "",
    "grinning face with star eyes": "", "face throwing a kiss": "", "face with stuck-out tongue": "",
    "money-mouth face": "", "thinking face": "", "zipper-mouth face": "", "neutral face": "",
    "face with rolling eyes": "", "sleeping face": "", "face with medical mask": "", "nauseated face": "",
    "sneezing face": "", "overheated face": "", "freezing face": "",
    "shocked face with exploding head": "exploding head", "astonished face": "", "loudly crying face": "",
    "face screaming in fear": "", "pouting face": "angry red face", "smiling face with horns": "", "skull": "",
    "crying face": "", "face with open mouth vomiting": "",
    "smiling cat face with heart-shaped eyes": "cat face with heart eyes", "crying cat face": "",
    # hands and body
    "thumbs up sign": "thumbs up", "clapping hands sign": "clapping hands", "flexed biceps": "", "ear": "",
    "nose": "", "brain": "", "tooth": "", "bone": "", "eyes": "", "mouth": "", "footprints": "",
    # signs of feeling
    "broken heart": "", "heart with arrow": "", "heart with ribbon": "", "love letter": "", "kiss mark": "",
    "collision symbol": "collision", "speech balloon": "", "hundred points symbol": "hundred points",
    # sky
    "full moon symbol": "full moon", "crescent moon": "", "sun with face": "", "ringed planet": "",
    "white medium star": "star", "cloud": "", "cloud with lightning": "", "rainbow": "", "snowflake": "",
    "snowman": "", "fire": "", "droplet": "", "water wave": "", "high voltage sign": "lightning",
    "umbrella on ground": "", "tornado": "",
    # places and transport
    "earth globe americas": "earth globe", "volcano": "", "mountain": "", "house building": "house", "tent": "",
    "european castle": "castle", "church": "", "ferris wheel": "", "beach with umbrella": "", "statue of liberty": "",
    "steam locomotive": "", "bus": "", "ambulance": "", "fire engine": "", "police car": "", "taxi": "",
    "tractor": "", "racing car": "", "motorcycle": "", "bicycle": "", "skateboard": "",
    "vertical traffic light": "traffic light", "octagonal sign": "stop sign", "anchor": "", "sailboat": "",
    "ship": "", "airplane": "", "helicopter": "", "rocket": "", "flying saucer": "", "fuel pump": "", "hourglass": "",
    "alarm clock": "", "bellhop bell": "",
    # things
    "jack-o-lantern": "", "christmas tree": "", "wrapped present": "", "party popper": "", "trophy": "",
    "first place medal": "gold medal", "direct hit": "dart board", "crystal ball": "", "video game": "",
    "game die": "", "teddy bear": "", "artist palette": "", "pinata": "", "eyeglasses": "", "sunglasses": "",
    "necktie": "", "jeans": "", "scarf": "", "gloves": "", "dress": "", "kimono": "", "bikini": "", "purse": "",
    "shopping bags": "", "school satchel": "backpack", "athletic shoe": "sneaker", "high-heeled shoe": "",
    "crown": "", "top hat": "", "graduation cap": "", "ring": "", "lipstick": "", "studio microphone": "",
    "headphone": "", "radio": "", "bell": "", "cheering megaphone": "megaphone", "mobile phone": "", "battery": "",
    "personal computer": "laptop", "floppy disk": "", "optical disc": "", "movie camera": "", "television": "",
    "camera": "", "candle": "", "electric light bulb": "light bulb", "scroll": "", "newspaper": "", "money bag": "",
    "coin": "", "credit card": "", "envelope": "", "package": "", "pencil": "", "crayon": "", "paintbrush": "",
    "pushpin": "", "black scissors": "scissors", "calendar": "", "wastebasket": "", "lock": "", "key": "",
    "hammer": "", "axe": "", "dagger": "", "bomb": "", "shield": "", "wrench": "", "gear": "", "magnet": "",
    "ladder": "", "test tube": "", "microscope": "", "telescope": "", "syringe": "", "pill": "", "stethoscope": "",
    "door": "", "bed": "", "chair": "", "toilet": "", "bathtub": "", "broom": "", "basket": "",
    "fire extinguisher": "", "headstone": "", "moyai": "", "coffin": "", "warning sign": "", "no entry": "",
    "radioactive": "", "yin yang": "", "peace symbol": "", "infinity": "",
    "black question mark ornament": "question mark", "heavy exclamation mark symbol": "exclamation mark",
    "heavy check mark": "check mark", "cross mark": "", "musical note": "", "black spade suit": "spade suit",
    "black diamond suit": "diamond suit", "black club suit": "club suit", "fork and knife": "", "chopsticks": "",
    "amphora": "",
}  # fmt: skip

# Shapes that come in colours, as they are drawn: name in emoji.json to (colour, shape).
COLOURED: Mapping[str, tuple[str, str]] = {
    "heavy black heart": ("red", "heart"),
    **{f"{colour} heart": (colour, "heart") for colour in (
        "pink", "orange", "yellow", "green", "blue", "light blue", "purple", "brown", "black", "grey", "white"
    )},
    **{f"large {colour} {shape}": (colour, shape) for shape in ("circle", "square") for colour in (
        "red", "orange", "yellow", "green", "blue", "purple", "brown"
    )},
    "medium black circle": ("black", "circle"),
    "medium white circle": ("white", "circle"),
    "black large square": ("black", "square"),
    "white large square": ("white", "square"),
    "closed book": ("red", "book"),
    "green book": ("green", "book"),
    "blue book": ("blue", "book"),
    "orange book": ("orange", "book"),
    "red apple": ("red", "apple"),
    "green apple": ("green", "apple"),
}  # fmt: skip

# Objects recoloured here: name in emoji.json to the shape's name. Each is drawn in every colour of PALETTE, but for
# pairs that COLOURED has already.
RECOLOURED: Mapping[str, str] = {
    "red apple": "apple",
    "closed book": "book",
    "automobile": "car",
    "balloon": "balloon",
    "closed umbrella": "umbrella",
    "tulip": "tulip",
    "mushroom": "mushroom",
    "t-shirt": "shirt",
    "large orange diamond": "diamond",
    "butterfly": "butterfly",
    "billed cap": "cap",
    "socks": "socks",
}

# Twemoji's own colours.
PALETTE: Mapping[str, tuple[int, int, int]] = {
    "red": (0xDD, 0x2E, 0x44),
    "orange": (0xF4, 0x90, 0x0C),
    "yellow": (0xFD, 0xCB, 0x58),
    "green": (0x78, 0xB1, 0x59),
    "blue": (0x55, 0xAC, 0xEE),
    "purple": (0xAA, 0x8E, 0xD6),
}

# Pairs that are never trained on: every colour and every shape is seen, but not these together.
HELD_OUT = frozenset(
    {
        ("orange", "heart"), ("green", "heart"), ("purple", "circle"), ("brown", "circle"), ("green", "square"),
        ("blue", "square"), ("orange", "book"), ("purple", "book"), ("blue", "apple"), ("yellow", "apple"),
        ("green", "car"), ("purple", "car"), ("yellow", "balloon"), ("blue", "balloon"), ("orange", "umbrella"),
        ("green", "umbrella"), ("purple", "tulip"), ("blue", "mushroom"), ("red", "shirt"), ("green", "shirt"),
        ("red", "diamond"), ("purple", "diamond"), ("orange", "butterfly"), ("yellow", "cap"), ("red", "socks"),
    }
)  # fmt: skip

# Names of whole subcategories that say what is drawn worse than these do.
RENAMED: Mapping[str, str] = {
    "aubergine": "eggplant",
    "ear of maize": "corn",
    "honeybee": "bee",
    "lady beetle": "ladybug",
    "extraterrestrial alien": "alien",
    "soft ice cream": "ice cream cone",
    "poultry leg": "chicken leg",
    "basketball and hoop": "basketball",
    "tennis racquet and ball": "tennis",
    "blowfish": "pufferfish",
    "doughnut": "donut",
    "spouting whale": "whale",
    "drum with drumsticks": "drum",
    "face with cowboy hat": "cowboy",
}
